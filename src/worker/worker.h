// Worker: a thread with a hook of its own, for every n-th connection. It takes tasks from its
// Inbox, runs the hook for each event and posts what came of it as Commands.
//
// It alone knows what hooks have made of its connections: the tag and whether one is closed. So
// messages that were read together see what the hooks of earlier ones did.
//
// Thread safety: the public methods are the loop's. The rest belongs to the worker's own thread,
// except for what is atomic.

#ifndef EVRELAY_WORKER_WORKER_H_
#define EVRELAY_WORKER_WORKER_H_

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "event/mailbox.h"
#include "evrelay/action.h"
#include "evrelay/ids.h"
#include "hook/hook.h"
#include "metrics/reasons.h"
#include "relay/command.h"
#include "relay/suspended_table.h"
#include "worker/inbox.h"
#include "worker/task.h"

namespace evrelay {

class Worker final : private Claims {
 public:
  using Clock = std::chrono::steady_clock;

  // Number `index` of `workers`: its connections are those whose conidx, modulo `workers`, is
  // `index`.
  Worker(Mailbox<Command>& mailbox, SuspendedTable& suspended, std::size_t index,
         std::size_t workers);
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
  // The thread has ended, or never begun.
  ~Worker();

  // Throws std::system_error when there is no thread to be had. Does nothing the second time.
  void Start();

  void Post(Task task);

  // It is to end after the hook that it is at; what is queued is dropped. The mailbox must have
  // been closed before.
  void Close();
  // Waits for its end. False: it has not come by `deadline`.
  bool Join(Clock::time_point deadline);

  // A hook that is being run.
  struct Running {
    ConnectionId connection;
    HookEventKind event;
    Clock::time_point since;
  };
  std::optional<Running> running() const;
  // It has not done all that was posted. Otherwise all its Commands stand in the mailbox.
  bool busy() const { return posted_ != done_; }

 private:
  // Runs without actions are reported this often at least, so that the reading of a connection
  // whose hooks are slow goes on.
  static constexpr std::chrono::milliseconds kReportAfter{1};

  // What hooks have made of a connection.
  struct Slot {
    std::uint32_t generation = 0;
    bool closed = false;
    std::string tag;
  };

  void Main();

  // False: the mailbox has been closed.
  bool Do(task::ConnectionNew& task);
  bool Do(task::MessagesReceived& task);
  bool Do(task::ConnectionClosed& task);
  bool Do(task::SetHook& task);

  bool Claim(SuspendedId request) noexcept override { return suspended_.Claim(request); }
  void GiveBack(SuspendedId request) noexcept override { suspended_.GiveBack(request); }

  Slot& SlotOf(ConnectionId connection);
  // Runs the hook, which begins at `now`; what it did to the connection is kept in `slot`.
  HookOutcome Run(HookEvent event, Slot& slot, Verdict& verdict, Clock::time_point now);
  bool Report(Command command);

  Mailbox<Command>& mailbox_;
  SuspendedTable& suspended_;
  const std::size_t index_;
  const std::size_t workers_;

  Inbox<Task> inbox_;
  std::uint64_t posted_ = 0;             // tasks; the loop's
  std::atomic<std::uint64_t> done_ = 0;  // tasks

  std::unique_ptr<Hook> hook_;
  std::vector<Slot> slots_;  // by conidx / workers_; the first event of a generation resets it

  // The hook that is being run, for the loop to read: since_ is set last, and set to zero first, so
  // when it reads the same value before and after the others, they belong together.
  std::atomic<Clock::rep> since_ = 0;  // Clock ticks; 0: at no hook
  std::atomic<std::uint32_t> conidx_ = 0;
  std::atomic<std::uint32_t> generation_ = 0;
  std::atomic<HookEventKind> event_{};

  std::thread thread_;
  std::promise<void> end_;
  std::future<void> ended_;  // by end_, when the thread touches nothing here any more
};

}  // namespace evrelay

#endif  // EVRELAY_WORKER_WORKER_H_
