// Task: what the loop hands to a worker. A value; crosses threads in the Inbox.

#ifndef EVRELAY_WORKER_TASK_H_
#define EVRELAY_WORKER_TASK_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "evrelay/ids.h"
#include "hook/hook.h"
#include "metrics/reasons.h"

namespace evrelay {

// Who a connection is, to a hook.
struct Origin {
  ConnectionId connection;
  std::string srcaddr;
  std::uint16_t srcport = 0;
  std::string peer_name{};  // in its certificate; empty: none
};

// Messages of one connection, in order; less than 4 GiB together.
class MessageBatch {
 public:
  void Add(std::string_view message) {
    bytes_.append(message);
    ends_.push_back(static_cast<std::uint32_t>(bytes_.size()));
  }
  bool empty() const { return ends_.empty(); }
  std::size_t size() const { return ends_.size(); }
  std::size_t bytes() const { return bytes_.size(); }
  std::string_view operator[](std::size_t index) const {
    const std::size_t begin = index == 0 ? 0 : ends_[index - 1];
    return std::string_view(bytes_).substr(begin, ends_[index] - begin);
  }

 private:
  std::string bytes_;
  std::vector<std::uint32_t> ends_;  // of each message within bytes_
};

namespace task {

struct ConnectionNew {
  Origin origin;
};
struct MessagesReceived {
  Origin origin;
  MessageBatch messages;
};
struct ConnectionClosed {
  Origin origin;
  CloseReason reason;
};
struct SetHook {
  std::unique_ptr<Hook> hook;  // null: no script
};

}  // namespace task

using Task = std::variant<task::ConnectionNew, task::MessagesReceived, task::ConnectionClosed,
                          task::SetHook>;

}  // namespace evrelay

#endif  // EVRELAY_WORKER_TASK_H_
