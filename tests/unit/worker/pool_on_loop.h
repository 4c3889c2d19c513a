// A WorkerPool on a loop that the test turns, with hooks that are functions of the test.

#ifndef EVRELAY_TESTS_UNIT_WORKER_POOL_ON_LOOP_H_
#define EVRELAY_TESTS_UNIT_WORKER_POOL_ON_LOOP_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "event/loop.h"
#include "event/mailbox.h"
#include "hook/hook.h"
#include "relay/command.h"
#include "relay/suspended_table.h"
#include "support/catch.h"
#include "support/turn_until.h"
#include "worker/worker_pool.h"

namespace evrelay {

// Runs on the workers' threads, so it must not use Catch's macros.
using HookFunction = std::function<HookOutcome(const HookEvent&, Verdict&)>;

class FunctionHook final : public Hook {
 public:
  explicit FunctionHook(HookFunction run) : run_(std::move(run)) {}
  HookOutcome Run(const HookEvent& event, Verdict& verdict) noexcept override {
    return run_(event, verdict);
  }

 private:
  const HookFunction run_;
};

inline HookOutcome Relay(Verdict& verdict, std::string evdata) {
  const std::size_t bytes = evdata.size();
  verdict.Add(action::Relay{std::move(evdata)}, bytes);
  return HookOutcome::kDone;
}

// "A B C": the events that the verdicts of these commands relay.
inline std::string Relayed(const std::vector<Command>& commands) {
  std::string all;
  for (const Command& command : commands) {
    for (const Action& action : command.verdict.actions()) {
      if (const auto* relay = std::get_if<action::Relay>(&action))
        all += (all.empty() ? "" : " ") + relay->evdata;
    }
  }
  return all;
}

inline Origin From(ConnectionId connection) { return {connection, "192.0.2.7", 40'000, {}}; }

class PoolOnLoop {
 public:
  explicit PoolOnLoop(std::size_t workers = 1) : pool(mailbox, suspended, workers) {}
  ~PoolOnLoop() {
    mailbox.Close();
    CHECK(pool.Stop(kTestDeadline));
  }

  // One hook a worker, all calling the same function.
  void SetHooks(const HookFunction& run) {
    std::vector<std::unique_ptr<Hook>> hooks;
    while (hooks.size() < pool.workers()) hooks.push_back(std::make_unique<FunctionHook>(run));
    pool.SetHooks(std::move(hooks));
  }

  void New(ConnectionId connection) {
    pool.ConnectionNew(From(connection));
    ++posted_;
  }
  void Messages(ConnectionId connection, std::initializer_list<std::string_view> messages) {
    MessageBatch batch;
    for (const std::string_view message : messages) batch.Add(message);
    Messages(connection, std::move(batch));
  }
  void Messages(ConnectionId connection, MessageBatch batch) {
    posted_ += batch.size();
    pool.MessagesReceived(From(connection), std::move(batch));
  }
  void Closed(ConnectionId connection, CloseReason reason = CloseReason::kEof) {
    pool.ConnectionClosed(From(connection), reason);
    ++posted_;
  }

  // Turns until all that was posted is done with; the commands that have come since the last time.
  // Checks that they account for all of it, exactly, and belong together as Command says.
  std::vector<Command> Done() {
    std::vector<Command> commands;
    const auto take = [&] {
      return mailbox.Take(SIZE_MAX, [&](Command command) {
        if (command.event == HookEventKind::kMessageReceived) {
          CHECK(command.messages > 0);
        } else {
          CHECK(command.messages == 0);
          ++done_;
        }
        CHECK(command.messages ==
              command.runs + command.dropped_no_hook + command.dropped_after_close);
        CHECK((command.outcome == HookOutcome::kDone || command.verdict.empty()));
        done_ += command.messages;
        commands.push_back(std::move(command));
      });
    };
    CHECK(TurnUntil(loop, [&] {
      take();
      return done_ >= posted_;
    }));
    const auto deadline = Loop::Now() + kTestDeadline;
    while (pool.busy() && Loop::Now() < deadline) std::this_thread::yield();
    CHECK_FALSE(pool.busy());
    CHECK_FALSE(take());
    CHECK(done_ == posted_);
    return commands;
  }

  Loop loop;
  Mailbox<Command> mailbox{loop};
  SuspendedTable suspended;
  WorkerPool pool;

 private:
  std::uint64_t posted_ = 0;  // messages and other events
  std::uint64_t done_ = 0;
};

// All of `commands` together.
inline Command Sum(const std::vector<Command>& commands) {
  Command sum;
  for (const Command& command : commands) {
    sum.messages += command.messages;
    sum.bytes += command.bytes;
    sum.runs += command.runs;
    sum.dropped_no_hook += command.dropped_no_hook;
    sum.dropped_after_close += command.dropped_after_close;
  }
  return sum;
}

}  // namespace evrelay

#endif  // EVRELAY_TESTS_UNIT_WORKER_POOL_ON_LOOP_H_
