// WorkerPool: connection → worker → verdict. Each worker is a thread with a hook of its own; a
// connection always meets the same one (conidx modulo their number), so that new → messages →
// closed stay in order. What hooks decide comes back as Commands through the mailbox.
//
// All of it is called on the loop's thread, and nothing here waits, Stop excepted.

#ifndef EVRELAY_WORKER_WORKER_POOL_H_
#define EVRELAY_WORKER_WORKER_POOL_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "event/mailbox.h"
#include "evrelay/ids.h"
#include "hook/hook.h"
#include "metrics/reasons.h"
#include "relay/command.h"

namespace evrelay {

// Messages of one connection, in order.
class MessageBatch {
 public:
  void Add(std::string_view message);
  bool empty() const { return ends_.empty(); }
  std::size_t size() const { return ends_.size(); }
  std::size_t bytes() const { return bytes_.size(); }
  std::string_view operator[](std::size_t index) const;

 private:
  std::string bytes_;
  std::vector<std::uint32_t> ends_;  // of each message within bytes_
};

// Who a connection is, to a hook.
struct Origin {
  ConnectionId connection;
  std::string srcaddr;
  std::uint16_t srcport = 0;
};

class WorkerPool {
 public:
  // `mailbox` must outlive the pool. No thread runs before the first SetHooks.
  WorkerPool(Mailbox<Command>& mailbox, std::size_t workers);
  ~WorkerPool();

  std::size_t workers() const;

  // One hook a worker: takes the place of the ones before, for what is posted from now on. Empty:
  // there is no script any more.
  void SetHooks(std::vector<std::unique_ptr<Hook>> hooks);
  // There is a script: connections are to be announced.
  bool active() const;

  // Every connection that was announced is ended by one ConnectionClosed. Both come back as one
  // Command with that event, whatever the hook did; messages come back in the `messages` of one or
  // more Commands.
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
  std::vector<Stuck> StuckWorkers() const;
  // Some worker has work, or is at it.
  bool busy() const;

  // Ends the threads: each finishes the hook it is at; what is queued is dropped. Close the mailbox
  // first. False: some worker did not end within `patience`; then the process must end without
  // destroying the pool.
  bool Stop(std::chrono::milliseconds patience);
};

}  // namespace evrelay

#endif  // EVRELAY_WORKER_WORKER_POOL_H_
