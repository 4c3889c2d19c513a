// What workers make of events, over hooks that are functions.

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "support/catch.h"
#include "unit/worker/pool_on_loop.h"
#include "worker/worker_pool.h"

namespace evrelay {
namespace {

using namespace std::chrono_literals;

constexpr ConnectionId kSomeone{0, 1};

// What a message asks for, up to its first blank, is done:
//   tag T    sets the tag
//   fail T   sets the tag, then fails
//   close    closes
//   quiet    nothing
//   none     finds no route
// Every other message, and every other event, is relayed with the tag: "hello/T".
HookOutcome Obey(const HookEvent& event, Verdict& verdict) {
  const std::string_view verb = event.msg.substr(0, event.msg.find(' '));
  const std::string argument(event.msg.substr(std::min(verb.size() + 1, event.msg.size())));
  if (verb == "none") return HookOutcome::kNoRoute;
  if (verb == "quiet") return HookOutcome::kDone;
  if (verb == "tag" || verb == "fail") {
    verdict.Add(action::SetTag{argument}, argument.size());
  } else if (verb == "close") {
    verdict.Add(action::Close{}, 0);
  } else {
    const std::string_view what =
        event.kind == HookEventKind::kMessageReceived ? event.msg : Name(event.kind);
    Relay(verdict, std::string(what) + "/" + std::string(event.tag));
  }
  if (verb != "fail") return HookOutcome::kDone;
  verdict.Clear();
  return HookOutcome::kError;
}

TEST_CASE("a hook sees the event as it was posted") {
  PoolOnLoop on;
  struct Seen {
    HookEventKind kind;
    ConnectionId connection;
    std::string srcaddr;
    std::uint16_t srcport;
    std::string msg;
    CloseReason reason;
  };
  std::vector<Seen> seen;  // the worker's, until Done
  on.SetHooks([&](const HookEvent& event, Verdict&) {
    seen.push_back({event.kind, event.connection, std::string(event.srcaddr), event.srcport,
                    std::string(event.msg), event.reason});
    return HookOutcome::kDone;
  });
  const ConnectionId connection{12, 34};
  on.New(connection);
  on.Messages(connection, {"hello"});
  on.Closed(connection, CloseReason::kTruncated);
  on.Done();

  REQUIRE(seen.size() == 3);
  for (std::size_t i = 0; i < seen.size(); ++i) {
    CHECK(seen[i].kind == static_cast<HookEventKind>(i));
    CHECK(seen[i].connection == connection);
    CHECK(seen[i].srcaddr == "192.0.2.7");
    CHECK(seen[i].srcport == 40'000);
  }
  CHECK(seen[1].msg == "hello");
  CHECK(seen[2].reason == CloseReason::kTruncated);
}

TEST_CASE("each event comes back as one command, with its verdict") {
  PoolOnLoop on;
  on.SetHooks(Obey);
  on.New(kSomeone);
  on.Messages(kSomeone, {"a", "bc"});
  on.Closed(kSomeone);
  const std::vector<Command> commands = on.Done();

  REQUIRE(commands.size() == 4);
  CHECK(commands[0].event == HookEventKind::kConnectionNew);
  CHECK(commands[1].event == HookEventKind::kMessageReceived);
  CHECK(commands[1].bytes == 1);
  CHECK(commands[2].bytes == 2);
  CHECK(commands[3].event == HookEventKind::kConnectionClosed);
  for (const Command& command : commands) {
    CHECK(command.connection == kSomeone);
    CHECK(command.outcome == HookOutcome::kDone);
  }
  CHECK(Relayed(commands) == "connection-new/ a/ bc/ connection-closed/");
}

TEST_CASE("the start and the end of a connection come back also when nothing is decided") {
  PoolOnLoop on;
  on.SetHooks([](const HookEvent&, Verdict&) { return HookOutcome::kDone; });
  on.New(kSomeone);
  on.Closed(kSomeone);
  const std::vector<Command> commands = on.Done();
  REQUIRE(commands.size() == 2);
  CHECK(commands[0].event == HookEventKind::kConnectionNew);
  CHECK(commands[1].event == HookEventKind::kConnectionClosed);
  for (const Command& command : commands) CHECK(command.verdict.empty());
}

TEST_CASE("a tag is seen by the messages after it, however they were read") {
  PoolOnLoop on;
  on.SetHooks(Obey);
  on.Messages(kSomeone, {"a", "tag red", "b", "tag blue", "c"});
  on.Messages(kSomeone, {"d", "tag ", "e"});
  CHECK(Relayed(on.Done()) == "a/ b/red c/blue d/blue e/");
}

TEST_CASE("a tag set at the start is seen up to the end") {
  PoolOnLoop on;
  on.SetHooks([](const HookEvent& event, Verdict& verdict) {
    if (event.kind != HookEventKind::kConnectionNew) return Obey(event, verdict);
    verdict.Add(action::SetTag{"first"}, 5);
    verdict.Add(action::SetTag{"last"}, 4);
    return HookOutcome::kDone;
  });
  on.New(kSomeone);
  on.Messages(kSomeone, {"a"});
  on.Closed(kSomeone);
  CHECK(Relayed(on.Done()) == "a/last connection-closed/last");
}

TEST_CASE("a hook that fails leaves the tag as it was, and is reported") {
  PoolOnLoop on;
  on.SetHooks(Obey);
  on.Messages(kSomeone, {"tag red", "fail blue", "a"});
  const std::vector<Command> commands = on.Done();
  CHECK(Relayed(commands) == "a/red");
  REQUIRE(commands.size() == 3);
  CHECK(commands[1].outcome == HookOutcome::kError);
  CHECK(commands[1].messages == 1);
  CHECK(commands[1].runs == 1);
  CHECK(commands[2].outcome == HookOutcome::kDone);
}

TEST_CASE("after a close by the hook, messages are dropped and the end is run") {
  PoolOnLoop on;
  on.SetHooks(Obey);
  on.New(kSomeone);
  on.Messages(kSomeone, {"tag red", "a", "close", "b", "tag blue"});
  on.Messages(kSomeone, {"c"});
  on.Closed(kSomeone, CloseReason::kHook);
  const std::vector<Command> commands = on.Done();
  CHECK(Relayed(commands) == "connection-new/ a/red connection-closed/red");
  const Command sum = Sum(commands);
  CHECK(sum.messages == 6);
  CHECK(sum.runs == 3);
  CHECK(sum.dropped_after_close == 3);
  CHECK(sum.bytes == std::string_view("tag redaclosebtag bluec").size());
}

TEST_CASE("a connection that is refused at its start has no messages") {
  const HookOutcome outcome = GENERATE(HookOutcome::kDone, HookOutcome::kError,
                                       HookOutcome::kTimeout, HookOutcome::kMemory);
  PoolOnLoop on;
  on.SetHooks([outcome](const HookEvent& event, Verdict& verdict) {
    if (event.kind != HookEventKind::kConnectionNew) return Obey(event, verdict);
    if (outcome == HookOutcome::kDone) verdict.Add(action::Close{}, 0);
    return outcome;
  });
  on.New(kSomeone);
  on.Messages(kSomeone, {"a", "b"});
  on.Closed(kSomeone, CloseReason::kHookError);
  const std::vector<Command> commands = on.Done();
  CHECK(commands.front().event == HookEventKind::kConnectionNew);
  CHECK(commands.front().outcome == outcome);
  CHECK(Sum(commands).dropped_after_close == 2);
  CHECK(commands.back().event == HookEventKind::kConnectionClosed);
  CHECK(Relayed(commands) == "connection-closed/");
}

TEST_CASE("events that the script has nothing for") {
  PoolOnLoop on;
  on.SetHooks([](const HookEvent& event, Verdict& verdict) {
    if (event.kind != HookEventKind::kMessageReceived) return HookOutcome::kNoRoute;
    return Obey(event, verdict);
  });
  on.New(kSomeone);
  on.Messages(kSomeone, {"a", "none", "quiet", "b"});
  on.Closed(kSomeone);
  const std::vector<Command> commands = on.Done();
  CHECK(Relayed(commands) == "a/ b/");
  CHECK(commands.front().event == HookEventKind::kConnectionNew);
  CHECK(commands.front().outcome == HookOutcome::kNoRoute);
  CHECK(commands.back().event == HookEventKind::kConnectionClosed);
  CHECK(commands.back().outcome == HookOutcome::kNoRoute);
  const Command sum = Sum(commands);
  CHECK(sum.runs == 3);
  CHECK(sum.dropped_no_hook == 1);
  for (const Command& command : commands) {
    if (command.event == HookEventKind::kMessageReceived)
      CHECK(command.outcome == HookOutcome::kDone);
  }
}

TEST_CASE("the next owner of a conidx inherits nothing") {
  const bool ended = GENERATE(true, false);  // false: it is older than the script
  const bool announced = GENERATE(true, false);
  PoolOnLoop on(2);
  on.SetHooks(Obey);
  const ConnectionId before{3, 7};
  const ConnectionId next{3, 8};
  on.Messages(before, {"tag red", "close", "a"});
  if (ended) on.Closed(before);
  on.Done();
  if (announced) on.New(next);
  on.Messages(next, {"b"});
  const std::vector<Command> commands = on.Done();
  CHECK(Relayed(commands) == (announced ? "connection-new/ b/" : "b/"));
  CHECK(Sum(commands).dropped_after_close == 0);
}

TEST_CASE("what was known of a connection goes with it") {
  PoolOnLoop on;
  on.SetHooks(Obey);
  on.Messages(kSomeone, {"tag red", "close"});
  on.Closed(kSomeone);
  // Its name comes again when the generations have come round.
  on.Messages(kSomeone, {"a"});
  CHECK(Relayed(on.Done()) == "connection-closed/red a/");
}

TEST_CASE("without a script") {
  PoolOnLoop on(2);
  CHECK_FALSE(on.pool.active());
  on.pool.SetHooks({});
  CHECK_FALSE(on.pool.active());
  CHECK_FALSE(on.pool.busy());

  on.SetHooks(Obey);
  CHECK(on.pool.active());
  on.Messages(kSomeone, {"tag red", "a"});
  on.pool.SetHooks({});
  CHECK_FALSE(on.pool.active());
  on.New({1, 1});
  on.Messages(kSomeone, {"b", "c"});
  on.Closed(kSomeone);
  std::vector<Command> commands = on.Done();
  CHECK(Relayed(commands) == "a/red");
  CHECK(Sum(commands).dropped_no_hook == 2);
  for (const Command& command : commands) {
    if (command.event != HookEventKind::kMessageReceived)
      CHECK(command.outcome == HookOutcome::kNoRoute);
  }
}

TEST_CASE("a reload: what was posted before meets the old script, tags stay") {
  PoolOnLoop on(3);
  const auto named = [](const std::string& name) {
    return [name](const HookEvent& event, Verdict& verdict) {
      if (event.msg == "tag") {
        verdict.Add(action::SetTag{name}, name.size());
        return HookOutcome::kDone;
      }
      return Relay(verdict, name + "/" + std::string(event.tag));
    };
  };
  constexpr std::uint32_t kConnections = 30;
  constexpr int kEach = 40;
  const auto post_to_all = [&] {
    for (int i = 0; i < kEach; ++i) {
      for (std::uint32_t conidx = 0; conidx < kConnections; ++conidx)
        on.Messages({conidx, 1}, {"tag", "a"});
    }
  };
  on.SetHooks(named("old"));
  post_to_all();
  on.SetHooks(named("new"));
  post_to_all();

  std::map<std::uint32_t, std::vector<Command>> of_connection;
  for (Command& command : on.Done())
    of_connection[command.connection.conidx].push_back(std::move(command));
  CHECK(of_connection.size() == kConnections);
  std::string expected;
  for (int i = 0; i < kEach; ++i) expected += "old/old ";
  for (int i = 0; i < kEach; ++i) expected += "new/new ";
  expected.pop_back();
  for (const auto& [conidx, commands] : of_connection) CHECK(Relayed(commands) == expected);

  on.SetHooks(Obey);
  on.Messages(kSomeone, {"a"});
  CHECK(Relayed(on.Done()) == "a/new");
}

TEST_CASE("hooks live and die on their worker's thread, where no signal arrives") {
  struct Facts {
    std::mutex mutex;
    std::set<std::thread::id> ran;
    std::vector<std::thread::id> died;
    std::set<std::string> threads;
    bool signals = false;
  } facts;
  class Recorder final : public Hook {
   public:
    explicit Recorder(Facts& facts) : facts_(facts) {}
    ~Recorder() override {
      const std::lock_guard lock(facts_.mutex);
      facts_.died.push_back(std::this_thread::get_id());
    }
    HookOutcome Run(const HookEvent&, Verdict&) noexcept override {
      char name[16] = "";
      pthread_getname_np(pthread_self(), name, sizeof(name));
      sigset_t blocked;
      pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
      const std::lock_guard lock(facts_.mutex);
      facts_.ran.insert(std::this_thread::get_id());
      facts_.threads.insert(name);
      for (const int signal : {SIGHUP, SIGINT, SIGTERM, SIGUSR1})
        facts_.signals = facts_.signals || sigismember(&blocked, signal) == 0;
      return HookOutcome::kDone;
    }

   private:
    Facts& facts_;
  };
  const auto recorders = [&] {
    std::vector<std::unique_ptr<Hook>> hooks;
    for (int i = 0; i < 2; ++i) hooks.push_back(std::make_unique<Recorder>(facts));
    return hooks;
  };
  const auto run_both = [](PoolOnLoop& on) {
    on.New({0, 1});
    on.New({1, 1});
    on.Done();
  };

  {
    PoolOnLoop on(2);
    on.pool.SetHooks(recorders());
    run_both(on);
    on.pool.SetHooks(recorders());
    run_both(on);
    CHECK(facts.died.size() == 2);
  }
  CHECK(facts.died.size() == 4);
  CHECK(facts.ran.size() == 2);
  CHECK(std::set(facts.died.begin(), facts.died.end()) == facts.ran);
  CHECK(facts.ran.count(std::this_thread::get_id()) == 0);
  CHECK(facts.threads == std::set<std::string>{"evrelay-hook/0", "evrelay-hook/1"});
  CHECK_FALSE(facts.signals);

  sigset_t mine;
  pthread_sigmask(SIG_SETMASK, nullptr, &mine);
  CHECK(sigismember(&mine, SIGTERM) == 0);
}

TEST_CASE("runs without actions are reported together") {
  PoolOnLoop on;
  on.SetHooks(Obey);
  constexpr std::size_t kMessages = 1000;
  MessageBatch batch;
  for (std::size_t i = 0; i < kMessages; ++i) batch.Add("quiet");
  const auto begin = Loop::Now();
  on.Messages(kSomeone, std::move(batch));
  const std::vector<Command> commands = on.Done();
  // A worker that got no processor for a while reports more often, but not oftener than that.
  const auto took = std::chrono::ceil<std::chrono::milliseconds>(Loop::Now() - begin);
  CHECK(commands.size() <= static_cast<std::size_t>(took.count()) + 1);
  CHECK(Sum(commands).runs == kMessages);
  CHECK(Sum(commands).bytes == kMessages * 5);
}

TEST_CASE("what was gathered goes with the next verdict") {
  PoolOnLoop on;
  on.SetHooks(Obey);
  on.Messages(kSomeone, {"quiet", "none", "a", "quiet"});
  const std::vector<Command> commands = on.Done();
  REQUIRE(commands.size() >= 2);
  const auto relays = std::find_if(commands.begin(), commands.end(),
                                   [](const Command& c) { return !c.verdict.empty(); });
  CHECK(Sum({commands.begin(), relays + 1}).messages == 3);
  CHECK(relays == commands.end() - 2);
}

TEST_CASE("slow hooks are reported before their batch is done") {
  PoolOnLoop on;
  std::atomic<std::uint64_t> heard = 0;  // messages that the loop knows to be done
  bool in_time = true;
  on.SetHooks([&, run = std::uint64_t{0}](const HookEvent&, Verdict&) mutable {
    const auto begin = Loop::Now();
    while (heard < run && Loop::Now() - begin < kTestDeadline) std::this_thread::yield();
    in_time = in_time && heard == run;
    while (Loop::Now() - begin < 2ms) std::this_thread::yield();
    ++run;
    return HookOutcome::kDone;
  });
  MessageBatch batch;
  for (int i = 0; i < 5; ++i) batch.Add("a");
  on.pool.MessagesReceived(From(kSomeone), std::move(batch));
  CHECK(TurnUntil(on.loop, [&] {
    on.mailbox.Take(SIZE_MAX, [&](const Command& command) { heard += command.messages; });
    return heard == 5;
  }));
  CHECK(in_time);
}

TEST_CASE("each connection's events stay in order, on its one worker") {
  const std::size_t workers = GENERATE(1u, 4u, 16u);
  constexpr std::uint32_t kConnections = 50;
  constexpr int kRounds = 60;
  PoolOnLoop on(workers);

  std::vector<std::unique_ptr<Hook>> hooks;
  std::atomic<bool> astray = false;
  for (std::size_t i = 0; i < workers; ++i) {
    hooks.push_back(
        std::make_unique<FunctionHook>([&, i](const HookEvent& event, Verdict& verdict) {
          if (event.connection.conidx % workers != i) astray = true;
          return Obey(event, verdict);
        }));
  }
  on.pool.SetHooks(std::move(hooks));

  std::mt19937 random(7);
  std::map<std::uint32_t, std::string> expected;
  std::map<std::uint32_t, int> number;
  for (std::uint32_t conidx = 0; conidx < kConnections; ++conidx) {
    on.New({conidx, 1});
    expected[conidx] = "connection-new/";
  }
  for (int round = 0; round < kRounds; ++round) {
    for (std::uint32_t conidx = 0; conidx < kConnections; ++conidx) {
      MessageBatch batch;
      for (std::uint32_t left = random() % 20; left > 0; --left) {
        if (random() % 3 == 0) {
          batch.Add("quiet");
          continue;
        }
        const std::string message = std::to_string(++number[conidx]);
        batch.Add(message);
        expected[conidx] += " " + message + "/";
      }
      if (!batch.empty()) on.Messages({conidx, 1}, std::move(batch));
    }
  }
  for (std::uint32_t conidx = 0; conidx < kConnections; ++conidx) {
    on.Closed({conidx, 1});
    expected[conidx] += " connection-closed/";
  }

  std::map<std::uint32_t, std::vector<Command>> of_connection;
  for (Command& command : on.Done())
    of_connection[command.connection.conidx].push_back(std::move(command));
  for (const auto& [conidx, commands] : of_connection) CHECK(Relayed(commands) == expected[conidx]);
  CHECK(of_connection.size() == kConnections);
  CHECK_FALSE(astray);
}

TEST_CASE("every message is accounted for, whatever becomes of it") {
  const std::size_t workers = GENERATE(1u, 4u);
  const unsigned seed = GENERATE(1u, 2u, 3u);
  PoolOnLoop on(workers);
  std::mt19937 random(seed);
  const std::vector<std::string> messages{"quiet", "a", "none", "tag red", "fail blue", "close"};
  std::uint64_t bytes = 0;
  std::uint64_t posted = 0;
  std::vector<Command> commands;
  on.SetHooks(Obey);
  for (int round = 0; round < 200; ++round) {
    if (round % 50 == 20) on.pool.SetHooks({});
    if (round % 50 == 30) on.SetHooks(Obey);
    for (std::uint32_t conidx = 0; conidx < 10; ++conidx) {
      const std::uint32_t generation = 1 + static_cast<std::uint32_t>(round) / 7;
      MessageBatch batch;
      for (std::uint32_t left = 1 + random() % 50; left > 0; --left)
        batch.Add(messages[random() % 20 == 0 ? random() % messages.size() : random() % 2]);
      bytes += batch.bytes();
      posted += batch.size();
      on.Messages({conidx, generation}, std::move(batch));
    }
  }
  const Command sum = Sum(on.Done());
  CHECK(sum.messages == posted);
  CHECK(sum.bytes == bytes);
  CHECK(sum.runs > 0);
  CHECK(sum.dropped_no_hook > 0);
  CHECK(sum.dropped_after_close > 0);
}

}  // namespace
}  // namespace evrelay
