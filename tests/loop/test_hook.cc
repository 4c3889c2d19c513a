// The way up and back: message → worker → hook → verdict → hub, with hooks that are functions of
// the test, on real workers.

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "evrelay/netstring.h"
#include "loop/relay_on_loop.h"
#include "support/catch.h"

namespace evrelay {
namespace {

using Family = RelayOnLoop::Family;

// Hooks that come to it wait until it is open. Any thread.
class Gate {
 public:
  void Wait() {
    std::unique_lock lock(mutex_);
    opened_.wait(lock, [this] { return open_; });
  }
  void Open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    opened_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable opened_;
  bool open_ = false;
};

using Function = std::function<HookOutcome(const HookEvent&, Verdict&)>;

class FunctionHook final : public Hook {
 public:
  FunctionHook(Function function, bool admits) : function_(std::move(function)), admits_(admits) {}
  HookOutcome Run(const HookEvent& event, Verdict& verdict) noexcept override {
    const HookOutcome outcome = function_(event, verdict);
    if (outcome != HookOutcome::kDone) verdict.Clear();
    return outcome;
  }
  bool Hears(HookEventKind kind) const noexcept override {
    return admits_ || kind != HookEventKind::kConnectionNew;
  }

 private:
  Function function_;
  bool admits_;
};

std::vector<std::unique_ptr<Hook>> Hooks(const Function& function, std::size_t workers = 1,
                                         bool admits = true) {
  std::vector<std::unique_ptr<Hook>> hooks;
  for (std::size_t i = 0; i < workers; ++i) {
    hooks.push_back(std::make_unique<FunctionHook>(function, admits));
  }
  return hooks;
}

void Add(Verdict& verdict, Action action) { verdict.Add(std::move(action), 0); }

// Answers each message, and says everybody what becomes of connections:
// new 0, closed 0 eof.
HookOutcome Talk(const HookEvent& event, Verdict& verdict) {
  const std::string who = std::to_string(event.connection.conidx);
  switch (event.kind) {
    case HookEventKind::kConnectionNew:
      Add(verdict, action::Relay{"new " + who});
      break;
    case HookEventKind::kMessageReceived:
      if (event.msg == "close") {
        Add(verdict, action::Reply{"bye"});
        Add(verdict, action::Close{});
      } else if (event.msg == "fail") {
        return HookOutcome::kError;
      } else {
        Add(verdict, action::Reply{"re " + std::string(event.msg)});
      }
      break;
    case HookEventKind::kConnectionClosed:
      Add(verdict, action::Relay{"closed " + who + " " + std::string(Name(event.reason))});
      break;
    case HookEventKind::kCount:
      break;
  }
  return HookOutcome::kDone;
}

// Until the peer has received exactly `wanted`.
bool Receives(RelayOnLoop& relay, Peer& peer, const std::string& wanted) {
  const bool done = relay.PumpUntil([&] {
    peer.Read();
    return peer.received.size() >= wanted.size();
  });
  CHECK(peer.received == wanted);
  return done;
}

Peer::End EndOf(RelayOnLoop& relay, Peer& peer) {
  relay.PumpUntil([&] {
    peer.Read();
    return peer.end != Peer::End::kNone;
  });
  return peer.end;
}

}  // namespace

TEST_CASE("hook: a message is answered, a close is told") {
  RelayOnLoop relay({}, GENERATE(Family::kUnix, Family::kTcp), Hooks(Talk));
  Peer one = relay.Subscriber();
  Receives(relay, one, "5:new 0,");
  Peer two = relay.Subscriber();
  Receives(relay, one, "5:new 0,5:new 1,");
  Receives(relay, two, "5:new 1,");
  two.Write("5:hello,3:you,");
  Receives(relay, two, "5:new 1,8:re hello,6:re you,");
  two.Close();
  Receives(relay, one, "5:new 0,5:new 1,12:closed 1 eof,");
  CHECK(relay.PumpUntil([&] { return relay.hub.places() == 1; }));
  CHECK(relay.counters.hook.runs[HookEventKind::kMessageReceived] == 2);
  CHECK(relay.counters.hook.runs[HookEventKind::kConnectionNew] == 2);
  CHECK(relay.counters.hook.runs[HookEventKind::kConnectionClosed] == 1);
}

TEST_CASE("hook: until connection-new is decided nothing is read or written") {
  Gate gate;
  std::vector<std::string> heard;  // by the worker; read when its words have come
  RelayOnLoop relay({}, Family::kUnix, Hooks([&](const HookEvent& event, Verdict& verdict) {
                      if (event.kind == HookEventKind::kConnectionNew) gate.Wait();
                      return Talk(event, verdict);
                    }));
  Peer subscriber = relay.Subscriber();
  Peer producer = relay.Producer();
  subscriber.Write("5:hello,");
  relay.Feed(producer, "3:one,");
  CHECK(relay.Receive(subscriber).empty());
  CHECK(relay.counters.messages.received == 0);
  CHECK(relay.hub.admitting() == 1);
  gate.Open();
  Receives(relay, subscriber, "3:one,5:new 0,8:re hello,");
}

TEST_CASE("hook: a script without a connection-new keeps nobody waiting") {
  Gate gate;
  const Function slow = [&](const HookEvent& event, Verdict& verdict) {
    if (event.kind == HookEventKind::kConnectionNew) return HookOutcome::kNoRoute;
    if (event.msg == "wait") gate.Wait();
    return Talk(event, verdict);
  };
  RelayOnLoop relay({}, Family::kUnix, Hooks(slow, 1, false));
  Peer talker = relay.Subscriber();
  talker.Write("4:wait,");
  Peer other = relay.Subscriber();
  CHECK(relay.hub.admitting() == 0);
  Peer producer = relay.Producer();
  relay.Feed(producer, "3:one,");
  CHECK(relay.Receive(other) == "3:one,");
  other.Write("5:hello,");
  other.EndWriting();
  gate.Open();
  CHECK(EndOf(relay, other) == Peer::End::kEof);
  CHECK(other.received == "3:one,8:re hello,12:closed 1 eof,");
}

TEST_CASE("hook: too many unhandled messages of one pause the reading of that one only") {
  Gate gate;
  const Function slow = [&](const HookEvent& event, Verdict& verdict) {
    const bool first = event.connection.conidx == 0;
    if (first && event.kind == HookEventKind::kMessageReceived) gate.Wait();
    return Talk(event, verdict);
  };
  Config config;
  config.workers = 2;
  RelayOnLoop relay(config, Family::kUnix, Hooks(slow, 2));
  Peer talker = relay.Subscriber();
  Receives(relay, talker, "5:new 0,");
  Peer other = relay.Subscriber();
  Receives(relay, other, "5:new 1,");
  std::string all;
  std::size_t messages = 0;
  SECTION("by their number") {
    messages = 200'000;
    for (std::size_t i = 0; i < messages; ++i) all += "1:x,";
  }
  SECTION("by their size") {
    messages = 40;
    for (std::size_t i = 0; i < messages; ++i) netstring::Append(all, std::string(40'000, 'x'));
  }
  std::size_t fed = relay.Feed(talker, all);
  CHECK(fed < all.size());
  const auto& counters = relay.counters.messages;
  const auto handled = [&] { return relay.counters.hook.runs[HookEventKind::kMessageReceived]; };
  CHECK(counters.bytes <= Subscriber::kMaxUnhandledBytes + Subscriber::kReadSize);
  CHECK(counters.received <= Subscriber::kMaxUnhandled + Subscriber::kReadSize / 4 + 1);
  CHECK(handled() == 0);
  other.Write("5:hello,");
  Receives(relay, other, "5:new 1,8:re hello,");
  gate.Open();
  CHECK(relay.PumpUntil([&] {
    fed += relay.Feed(talker, std::string_view(all).substr(fed));
    talker.Read();
    return handled() == messages + 1;
  }));
  CHECK(fed == all.size());
}

TEST_CASE("hook: who ends its side gets its answers first, then the end") {
  RelayOnLoop relay({}, GENERATE(Family::kUnix, Family::kTcp), Hooks(Talk));
  Peer peer = relay.Subscriber();
  std::string wanted = "5:new 0,";
  Receives(relay, peer, wanted);
  SECTION("in good order") {
    peer.Write("5:hello,");
    peer.EndWriting();
    wanted += "8:re hello,12:closed 0 eof,";
  }
  SECTION("within a frame") {
    peer.Write("5:hello,3:x");
    peer.EndWriting();
    wanted += "8:re hello,18:closed 0 truncated,";
  }
  SECTION("by a protocol error") {
    peer.Write("5:hello,x:oops");
    wanted += "8:re hello,17:closed 0 bad-size,";
  }
  CHECK(EndOf(relay, peer) == Peer::End::kEof);
  CHECK(peer.received == wanted);
  peer.Close();
  CHECK(relay.PumpUntil([&] { return relay.hub.places() == 0; }));
}

TEST_CASE("hook: after a close queued messages are dropped, connection-closed runs next") {
  RelayOnLoop relay({}, Family::kUnix, Hooks(Talk));
  Peer other = relay.Subscriber();
  Receives(relay, other, "5:new 0,");
  Peer peer = relay.Subscriber();
  Receives(relay, other, "5:new 0,5:new 1,");
  peer.Write("3:one,5:close,3:two,5:three,");
  CHECK(EndOf(relay, peer) == Peer::End::kEof);
  CHECK(peer.received == "5:new 1,6:re one,3:bye,");
  Receives(relay, other, "5:new 0,5:new 1,13:closed 1 hook,");
  CHECK(relay.counters.hook.runs[HookEventKind::kMessageReceived] == 2);
  CHECK(relay.counters.messages.dropped_after_close == 2);
  CHECK(relay.Closed(CloseReason::kHook) == 1);
}

TEST_CASE("hook: a failed message changes nothing") {
  RelayOnLoop relay({}, Family::kUnix, Hooks(Talk));
  Peer peer = relay.Subscriber();
  peer.Write("4:fail,5:hello,");
  Receives(relay, peer, "5:new 0,8:re hello,");
  CHECK(relay.counters.hook.failed[HookOutcome::kError] == 1);
  CHECK(relay.counters.hook.runs[HookEventKind::kMessageReceived] == 2);
}

TEST_CASE("hook: a failed connection-new closes; its connection-closed runs") {
  RelayOnLoop relay(
      {}, Family::kUnix, Hooks([](const HookEvent& event, Verdict& verdict) {
        if (event.kind == HookEventKind::kConnectionNew && event.connection.conidx == 1) {
          return HookOutcome::kError;
        }
        return Talk(event, verdict);
      }));
  Peer other = relay.Subscriber();
  Receives(relay, other, "5:new 0,");
  Peer refused = relay.Subscriber();
  CHECK(EndOf(relay, refused) == Peer::End::kEof);
  CHECK(refused.received.empty());
  Receives(relay, other, "5:new 0,19:closed 1 hook-error,");
}

TEST_CASE("hook: what was said before a reset still counts") {
  Gate gate;
  RelayOnLoop relay({}, Family::kUnix, Hooks([&](const HookEvent& event, Verdict& verdict) {
                      if (event.msg == "wait") gate.Wait();
                      Add(verdict, action::Relay{std::string(event.msg)});
                      Add(verdict, action::SetTag{"mine"});
                      Add(verdict, action::Reply{"for you"});
                      return event.kind == HookEventKind::kMessageReceived ? HookOutcome::kDone
                                                                           : HookOutcome::kNoRoute;
                    }));
  Peer other = relay.Subscriber();
  Peer peer = relay.Subscriber();
  peer.Write("4:wait,4:last,");
  REQUIRE(relay.PumpUntil([&] { return relay.counters.messages.received == 2; }));
  relay.hub.CutAll();  // whatever has ended them
  CHECK(relay.hub.places() == 2);
  Peer next = relay.Subscriber();
  CHECK(relay.hub.places() == 3);
  gate.Open();
  Receives(relay, next, "4:wait,4:last,");
  CHECK(relay.PumpUntil([&] { return relay.hub.places() == 1; }));
  CHECK(relay.counters.hook.stale_actions == 4);
  CHECK(relay.hub.Multicast("x", "mine") == 0);
}

TEST_CASE("hook: places are taken until connection-closed has run") {
  Gate gate;
  Config config;
  config.max_clients = 2;
  RelayOnLoop relay(config, Family::kUnix, Hooks([&](const HookEvent& event, Verdict& verdict) {
                      if (event.kind == HookEventKind::kConnectionClosed) gate.Wait();
                      return Talk(event, verdict);
                    }));
  Peer first = relay.Subscriber();
  Receives(relay, first, "5:new 0,");
  first.Close();
  relay.Pump();
  Peer second = relay.Subscriber();
  Peer third = relay.Subscriber();
  CHECK(relay.counters.subscribers.refused[RefuseReason::kFull] == 1);
  CHECK(EndOf(relay, third) != Peer::End::kNone);
  gate.Open();
  CHECK(relay.PumpUntil([&] { return relay.hub.places() == 1; }));
  Peer fourth = relay.Subscriber();
  CHECK(relay.PumpUntil([&] {
    fourth.Read();
    return fourth.received.ends_with("5:new 0,");
  }));
}

TEST_CASE("hook: without a script again, who was announced is still told of by nobody") {
  RelayOnLoop relay({}, Family::kUnix, Hooks(Talk));
  Peer old = relay.Subscriber();
  Receives(relay, old, "5:new 0,");
  relay.workers.SetHooks({});
  Peer young = relay.Subscriber();
  CHECK(relay.hub.admitting() == 0);
  old.Write("5:hello,");
  CHECK(relay.PumpUntil([&] { return relay.counters.messages.dropped_no_hook == 1; }));
  old.Close();
  CHECK(relay.PumpUntil([&] { return relay.hub.places() == 1; }));
  relay.workers.SetHooks(Hooks(Talk));
  young.Write("5:hello,");
  Receives(relay, young, "8:re hello,");
  young.Close();
  CHECK(relay.PumpUntil([&] { return relay.hub.places() == 0; }));
  CHECK(relay.counters.hook.runs[HookEventKind::kConnectionClosed] == 0);
}

TEST_CASE("hook: without netstrings every chunk is a message") {
  Config config;
  config.netstring_format = false;
  RelayOnLoop relay(config, Family::kUnix, Hooks(Talk));
  Peer peer = relay.Subscriber();
  Receives(relay, peer, "new 0");
  peer.Write("5:hello,");
  Receives(relay, peer, "new 0re 5:hello,");
}

TEST_CASE("hook: a drain lets the script finish") {
  Gate gate;
  RelayOnLoop relay({}, Family::kUnix, Hooks([&](const HookEvent& event, Verdict& verdict) {
                      if (event.msg == "wait") gate.Wait();
                      return Talk(event, verdict);
                    }));
  Peer peer = relay.Subscriber();
  peer.Write("4:wait,4:more,");
  REQUIRE(relay.PumpUntil([&] { return relay.counters.messages.received == 2; }));
  relay.Drain();
  relay.Pump();
  CHECK(relay.hub.places() == 1);
  gate.Open();
  CHECK(EndOf(relay, peer) == Peer::End::kEof);
  CHECK(peer.received == "5:new 0,7:re wait,7:re more,14:closed 0 drain,");
  peer.Close();
  CHECK(relay.PumpUntil([&] { return relay.hub.places() == 0; }));
}

TEST_CASE("hook: much from a hook in one turn reaches all, in order") {
  RelayOnLoop relay({}, Family::kUnix, Hooks([](const HookEvent& event, Verdict& verdict) {
                      if (event.kind != HookEventKind::kMessageReceived)
                        return HookOutcome::kNoRoute;
                      for (int i = 0; i < 1000; ++i) {
                        Add(verdict, action::Relay{std::string(event.msg) + std::to_string(i)});
                      }
                      return HookOutcome::kDone;
                    }));
  Peer talker = relay.Subscriber();
  Peer listener = relay.Subscriber();
  std::string wanted;
  std::string said;
  for (int i = 0; i < 100; ++i) {
    const std::string name = "m" + std::to_string(i) + "-";
    netstring::Append(said, name);
    for (int k = 0; k < 1000; ++k) netstring::Append(wanted, name + std::to_string(k));
  }
  talker.Write(said);
  CHECK(relay.PumpUntil([&] {
    talker.Read();
    listener.Read();
    return listener.received.size() >= wanted.size();
  }));
  CHECK(listener.received == wanted);
  CHECK(talker.received == wanted);
}

TEST_CASE("hook: while the worker is behind, the time for a frame does not run") {
  using namespace std::chrono_literals;
  Gate gate;
  Config config;
  config.frame_timeout = 20ms;
  RelayOnLoop relay(config, Family::kUnix, Hooks([&](const HookEvent& event, Verdict&) {
                      if (event.kind == HookEventKind::kMessageReceived) gate.Wait();
                      return HookOutcome::kDone;
                    }));
  Peer peer = relay.Subscriber();
  REQUIRE(relay.PumpUntil([&] { return relay.hub.admitting() == 0; }));
  std::string wire;
  for (std::uint32_t i = 0; i <= Subscriber::kMaxUnhandled; ++i) wire += "1:x,";
  REQUIRE(peer.Write(wire + "5:hel") == wire.size() + 5);
  REQUIRE(relay.PumpUntil(
      [&] { return relay.counters.messages.received > Subscriber::kMaxUnhandled; }));
  const auto began = Loop::Now();
  REQUIRE(relay.PumpUntil([&] { return Loop::Now() - began > 10 * config.frame_timeout; }));
  CHECK(relay.hub.live() == 1);
  gate.Open();
  CHECK(relay.PumpUntil([&] { return relay.Closed(CloseReason::kFrameTimeout) == 1; }));
  CHECK(relay.counters.messages.unhandled == 0);
}

}  // namespace evrelay
