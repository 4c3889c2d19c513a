// WorkerPool: connection → worker → verdict. Each worker is a thread with a hook of its own; a
// connection always meets the same one (conidx modulo their number), so that new → messages →
// closed stay in order. What hooks decide comes back as Commands through the mailbox.
//
// All of it is called on the loop's thread, and nothing here waits, Stop excepted.

#ifndef EVRELAY_WORKER_WORKER_POOL_H_
#define EVRELAY_WORKER_WORKER_POOL_H_

#include <chrono>
#include <cstddef>
#include <memory>
#include <vector>

#include "event/loop.h"
#include "event/mailbox.h"
#include "evrelay/ids.h"
#include "hook/hook.h"
#include "metrics/reasons.h"
#include "relay/command.h"
#include "relay/suspended_table.h"
#include "worker/task.h"

namespace evrelay {

class Worker;

class WorkerPool {
 public:
  // `mailbox` and `suspended` must outlive the pool. No thread runs before the first SetHooks.
  WorkerPool(Mailbox<Command>& mailbox, SuspendedTable& suspended, std::size_t workers);
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;
  // After Stop; else the mailbox must have been closed.
  ~WorkerPool();

  std::size_t workers() const { return workers_.size(); }

  // One hook a worker: takes the place of the ones before, for what is posted from now on. Empty:
  // there is no script any more. Throws std::system_error when threads are to be begun and cannot
  // be; then nothing has changed.
  void SetHooks(std::vector<std::unique_ptr<Hook>> hooks);
  // There is a script: connections are to be announced.
  bool active() const { return active_; }
  // It has something for connection-new: connections are to be admitted by it.
  bool admits() const { return admits_; }

  // These, only once there has been a script. Every connection that was announced is ended by one
  // ConnectionClosed. Both come back as one Command with that event, whatever the hook did;
  // messages come back in the `messages` of one or more Commands.
  void ConnectionNew(Origin origin);
  void MessagesReceived(Origin origin, MessageBatch messages);
  void ConnectionClosed(Origin origin, CloseReason reason);

  // Workers that have been at the same hook for longer than kStuckAfter.
  static constexpr std::chrono::seconds kStuckAfter{2};
  struct Stuck {
    std::size_t worker;
    ConnectionId connection;
    HookEventKind event;
    std::chrono::milliseconds since;
  };
  std::vector<Stuck> StuckWorkers(std::chrono::steady_clock::time_point now = Loop::Now()) const;
  // Some worker has work, or is at it.
  bool busy() const;

  // Ends the threads: each finishes the hook it is at; what is queued is dropped. Close the mailbox
  // first. False: some worker did not end within `patience`; then Stop again, or end the process
  // without destroying the pool.
  bool Stop(std::chrono::milliseconds patience);

 private:
  Worker& WorkerOf(ConnectionId connection);

  std::vector<std::unique_ptr<Worker>> workers_;
  bool started_ = false;  // there has been a script
  bool active_ = false;
  bool admits_ = false;
};

}  // namespace evrelay

#endif  // EVRELAY_WORKER_WORKER_POOL_H_
