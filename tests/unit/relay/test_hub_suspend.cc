// What the hub does for requests that wait for a hook's answer. The clock is the test's.

#include <chrono>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "relay/hub.h"
#include "support/catch.h"
#include "support/clock.h"

namespace evrelay {
namespace {

using namespace std::chrono_literals;
using Answers = std::vector<std::string>;

// Writes down what it is told; by then the request has ended.
class Recorder final : public Requester {
 public:
  explicit Recorder(Hub& hub) : hub_(hub) {}

  void OnResumed(SuspendedId request, std::string_view data) noexcept override {
    answers.push_back("resumed " + std::to_string(request.index) + " " + std::string(data));
    CHECK_FALSE(hub_.suspended().Claim(request));
  }
  void OnExpired(SuspendedId request) noexcept override {
    answers.push_back("expired " + std::to_string(request.index));
    CHECK_FALSE(hub_.suspended().Claim(request));
  }

  Answers answers;

 private:
  Hub& hub_;
};

class SuspendTest {
 protected:
  SuspendedId Suspend(std::chrono::milliseconds timeout) { return hub.Suspend(recorder, timeout); }
  bool Claim(SuspendedId request) { return hub.suspended().Claim(request); }
  void GiveBack(SuspendedId request) { hub.suspended().GiveBack(request); }

  // What a worker posts after a hook of some connection, which need not be there any more.
  void Say(std::vector<Action> actions, HookOutcome outcome = HookOutcome::kDone) {
    Command command;
    command.connection = {3, 1};
    command.outcome = outcome;
    for (Action& action : actions) command.verdict.Add(std::move(action), 0);
    hub.Apply(command);
    CheckBooks();
  }

  // Time passes, and the loop turns.
  void After(std::chrono::nanoseconds time) {
    AdvanceClock(time);
    Turn();
  }
  void Turn() {
    loop.RunUntilIdle();
    CheckBooks();
  }
  void CheckBooks() {
    const auto& async = counters.async;
    CHECK(async.suspended ==
          async.resumed + async.expired + async.drained + async.abandoned + hub.suspended().size());
  }

  Config config;
  Counters counters;
  Loop loop;
  Hub hub{loop, config, counters};
  Recorder recorder{hub};
  const Answers& answers = recorder.answers;
};

}  // namespace

TEST_CASE_METHOD(SuspendTest, "hub: a verdict resumes the request that its hook has claimed") {
  const SuspendedId first = Suspend(30s);
  const SuspendedId second = Suspend(30s);
  REQUIRE(Claim(second));
  REQUIRE(Claim(first));
  Say({action::Resume{second, "b"}, action::Relay{"event"}, action::Resume{first, "a"}});
  CHECK(answers == Answers{"resumed 1 b", "resumed 0 a"});
  CHECK(counters.async.suspended == 2);
  CHECK(counters.async.resumed == 2);
  CHECK(counters.hook.actions.resume == 2);
  CHECK(counters.hook.stale_actions == 0);
  CHECK(counters.events.relayed == 1);
  After(1h);
  CHECK(answers.size() == 2);
}

TEST_CASE_METHOD(SuspendTest, "hub: a resume that comes too late is counted, and nothing else") {
  const SuspendedId request = Suspend(30s);
  Say({action::Resume{request, "unclaimed"}});
  CHECK(counters.hook.stale_actions == 1);
  REQUIRE(Claim(request));
  Say({action::Resume{request, "once"}, action::Resume{request, "twice"}});
  Say({action::Resume{request, "again"}});
  CHECK(answers == Answers{"resumed 0 once"});
  CHECK(counters.async.resumed == 1);
  CHECK(counters.hook.actions.resume == 4);
  CHECK(counters.hook.stale_actions == 3);
}

TEST_CASE_METHOD(SuspendTest, "hub: requests expire, each at its own time") {
  Suspend(30s);
  Suspend(10s);  // before the one that is timed already
  Suspend(20s);
  After(9s);
  CHECK(answers.empty());
  After(2s);
  CHECK(answers == Answers{"expired 1"});
  After(8s);
  CHECK(answers.size() == 1);
  After(2s);
  CHECK(answers == Answers{"expired 1", "expired 2"});
  After(10s);
  CHECK(answers == Answers{"expired 1", "expired 2", "expired 0"});
  CHECK(counters.async.expired == 3);
  CHECK(hub.suspended().size() == 0);

  // The timer serves again.
  Suspend(1ms);
  After(2ms);
  CHECK(answers.size() == 4);
}

TEST_CASE_METHOD(SuspendTest, "hub: several that are over expire in one turn") {
  for (int i = 0; i < 100; ++i) Suspend(std::chrono::milliseconds(1000 - i));
  After(2s);
  REQUIRE(answers.size() == 100);
  CHECK(answers.front() == "expired 99");
  CHECK(answers.back() == "expired 0");
}

TEST_CASE_METHOD(SuspendTest, "hub: the next is still timed when the earliest has ended early") {
  const SuspendedId first = Suspend(10s);
  Suspend(20s);
  REQUIRE(Claim(first));
  Say({action::Resume{first, "x"}});
  After(11s);
  CHECK(answers == Answers{"resumed 0 x"});
  After(10s);
  CHECK(answers == Answers{"resumed 0 x", "expired 1"});
}

TEST_CASE_METHOD(SuspendTest, "hub: one that its requester has ended is not told of") {
  const SuspendedId ended = Suspend(10s);
  Suspend(20s);
  hub.suspended().End(ended);
  ++counters.async.abandoned;  // as its requester counts it
  After(15s);
  CHECK(answers.empty());
  After(10s);
  CHECK(answers == Answers{"expired 1"});
}

TEST_CASE_METHOD(SuspendTest, "hub: a claim holds its request a second beyond the deadline") {
  const SuspendedId request = Suspend(10s);
  After(9s);
  REQUIRE(Claim(request));
  After(1500ms);
  CHECK(answers.empty());
  SECTION("the verdict comes in time") {
    Say({action::Resume{request, "late"}});
    CHECK(answers == Answers{"resumed 0 late"});
    CHECK(counters.async.resumed == 1);
  }
  SECTION("the verdict comes too late") {
    After(600ms);
    CHECK(answers == Answers{"expired 0"});
    CHECK(counters.async.expired == 1);
    Say({action::Resume{request, "too late"}});
    CHECK(counters.hook.stale_actions == 1);
    CHECK(counters.async.resumed == 0);
  }
  SECTION("the hook fails") {
    const HookOutcome outcome =
        GENERATE(HookOutcome::kError, HookOutcome::kTimeout, HookOutcome::kMemory);
    GiveBack(request);
    Turn();
    CHECK(answers.empty());  // nobody has told the loop
    Say({}, outcome);
    Turn();
    CHECK(answers == Answers{"expired 0"});
  }
  After(1h);
  CHECK(answers.size() == 1);
}

TEST_CASE_METHOD(SuspendTest, "hub: a hook that fails in time leaves the request waiting") {
  const SuspendedId request = Suspend(10s);
  REQUIRE(Claim(request));
  GiveBack(request);
  Say({}, HookOutcome::kError);
  After(9s);
  CHECK(answers.empty());
  REQUIRE(Claim(request));
  Say({action::Resume{request, "second"}});
  CHECK(answers == Answers{"resumed 0 second"});
}

TEST_CASE_METHOD(SuspendTest, "hub: failures without requests time nothing") {
  Say({}, HookOutcome::kError);
  After(1h);
  CHECK(answers.empty());
}

}  // namespace evrelay
