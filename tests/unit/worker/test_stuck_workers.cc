// Hooks that do not end, and the end of the pool.

#include <atomic>
#include <chrono>
#include <initializer_list>
#include <semaphore>
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

// Stands in the hook's way; the test opens it, for one run at a time.
class Gate {
 public:
  // The worker.
  void Pass() {
    arrived_.release();
    open_.acquire();
  }
  // The test: the worker stands before the gate.
  bool Arrived() { return arrived_.try_acquire_for(kTestDeadline); }
  void Open() { open_.release(); }

 private:
  std::counting_semaphore<> arrived_{0};
  std::counting_semaphore<> open_{0};
};

TEST_CASE("a worker that is at one hook for too long is reported") {
  PoolOnLoop on(2);
  Gate gate;
  on.SetHooks([&](const HookEvent& event, Verdict& verdict) {
    if (event.msg == "stick") gate.Pass();
    return Relay(verdict, "done");
  });
  CHECK(on.pool.StuckWorkers(Loop::Now() + 1h).empty());
  const auto before = Loop::Now();
  const ConnectionId stuck{5, 3};
  on.Messages(stuck, {"stick"});
  CHECK(gate.Arrived());
  CHECK(on.pool.busy());

  // It began after `before`.
  CHECK(on.pool.StuckWorkers(before + WorkerPool::kStuckAfter).empty());
  const std::vector<WorkerPool::Stuck> found = on.pool.StuckWorkers(Loop::Now() + 3s);
  REQUIRE(found.size() == 1);
  CHECK(found[0].worker == 1);
  CHECK(found[0].connection == stuck);
  CHECK(found[0].event == HookEventKind::kMessageReceived);
  CHECK(found[0].since >= 3s);
  CHECK(found[0].since <= Loop::Now() + 3s - before);

  // The other one goes on meanwhile.
  on.pool.ConnectionNew(From({4, 1}));
  CHECK(TurnUntil(on.loop, [&] { return on.mailbox.Take(SIZE_MAX, [](const Command&) {}); }));

  gate.Open();
  CHECK(Relayed(on.Done()) == "done");
  CHECK(on.pool.StuckWorkers(Loop::Now() + 1h).empty());
}

TEST_CASE("a worker that waits for room in the mailbox is not stuck") {
  constexpr std::size_t kEvent = Verdict::kMaxBytes;
  constexpr std::size_t kFit = Mailbox<Command>::kMaxBytes / kEvent;
  PoolOnLoop on;
  std::atomic<std::size_t> runs = 0;
  on.SetHooks([&](const HookEvent&, Verdict& verdict) {
    ++runs;
    return Relay(verdict, std::string(kEvent, 'x'));
  });
  MessageBatch batch;
  for (std::size_t i = 0; i < kFit + 3; ++i) batch.Add("a");
  on.Messages({0, 1}, std::move(batch));

  const auto deadline = Loop::Now() + kTestDeadline;
  while ((runs <= kFit || !on.pool.StuckWorkers(Loop::Now() + 1h).empty()) &&
         Loop::Now() < deadline)
    std::this_thread::yield();
  CHECK(runs == kFit + 1);
  CHECK(on.pool.StuckWorkers(Loop::Now() + 1h).empty());
  CHECK(on.pool.busy());
  CHECK(on.Done().size() == kFit + 3);
}

TEST_CASE("the wait for room does not count as time at the next hook") {
  PoolOnLoop on;
  Gate gate;
  std::atomic<bool> ran = false;
  on.SetHooks([&](const HookEvent& event, Verdict&) {
    if (event.msg == "stick") gate.Pass();
    // Long enough to be reported before the next message.
    for (const auto begin = Loop::Now(); Loop::Now() - begin < 2ms;) std::this_thread::yield();
    ran = true;
    return HookOutcome::kDone;
  });
  on.mailbox.Post(Command(), Mailbox<Command>::kMaxBytes);
  on.Messages({0, 1}, {"slow", "stick"});
  while (!ran || !on.pool.StuckWorkers(Loop::Now() + 1h).empty()) std::this_thread::yield();

  const auto before = Loop::Now();
  on.mailbox.Take(1, [](const Command&) {});
  CHECK(gate.Arrived());
  CHECK(on.pool.StuckWorkers(before + WorkerPool::kStuckAfter).empty());
  gate.Open();
  CHECK(on.Done().size() == 2);
}

TEST_CASE("Stop drops what is queued, and gives up on a worker that does not end") {
  PoolOnLoop on(2);
  Gate gate;
  std::atomic<int> runs = 0;
  on.SetHooks([&](const HookEvent&, Verdict& verdict) {
    ++runs;
    gate.Pass();
    return Relay(verdict, "done");
  });
  const auto post = [&](std::initializer_list<std::string_view> messages) {
    MessageBatch batch;
    for (const std::string_view message : messages) batch.Add(message);
    on.pool.MessagesReceived(From({1, 1}), std::move(batch));
  };
  post({"a"});
  CHECK(gate.Arrived());
  post({"b", "c"});
  post({"d"});
  gate.Open();
  CHECK(gate.Arrived());
  // "b" is being run, "c" and "d" have been taken from the inbox, the next two have not.
  post({"e"});
  on.pool.ConnectionClosed(From({1, 1}), CloseReason::kDrain);

  on.mailbox.Close();
  const auto begin = Loop::Now();
  CHECK_FALSE(on.pool.Stop(20ms));
  CHECK(Loop::Now() - begin >= 20ms);
  CHECK(Loop::Now() - begin < kTestDeadline);
  REQUIRE(on.pool.StuckWorkers(Loop::Now() + 3s).size() == 1);
  CHECK(on.pool.StuckWorkers(Loop::Now() + 3s)[0].worker == 1);

  gate.Open();
  CHECK(on.pool.Stop(kTestDeadline));
  CHECK(runs == 2);
  CHECK(on.pool.Stop(0ms));
}

TEST_CASE("Stop releases a worker that waits for room in the mailbox") {
  PoolOnLoop on;
  std::counting_semaphore<> ran{0};
  on.SetHooks([&](const HookEvent&, Verdict& verdict) {
    ran.release();
    return Relay(verdict, std::string(Verdict::kMaxBytes, 'x'));
  });
  MessageBatch batch;
  for (int i = 0; i < 100; ++i) batch.Add("a");
  on.pool.MessagesReceived(From({0, 1}), std::move(batch));
  for (int i = 0; i < 5; ++i) CHECK(ran.try_acquire_for(kTestDeadline));
  on.mailbox.Close();
  CHECK(on.pool.Stop(kTestDeadline));
}

TEST_CASE("a pool that has never run stops at once") {
  PoolOnLoop on(16);
  CHECK(on.pool.workers() == 16);
  CHECK(on.pool.Stop(0ms));
}

TEST_CASE("idle workers stop at once, and what is posted later goes nowhere") {
  PoolOnLoop on(4);
  on.SetHooks([](const HookEvent&, Verdict&) { return HookOutcome::kDone; });
  on.New({0, 1});
  on.Done();
  on.mailbox.Close();
  CHECK(on.pool.Stop(kTestDeadline));
  on.pool.ConnectionClosed(From({0, 1}), CloseReason::kDrain);
  CHECK(on.pool.Stop(0ms));
}

}  // namespace
}  // namespace evrelay
