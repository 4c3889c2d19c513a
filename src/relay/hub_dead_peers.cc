// Of the hub: peers that are gone without a word. The kernel finds those that nothing is sent to;
// those that something is sent to would stay for a quarter of an hour, so they are looked at every
// few seconds until they have acknowledged it. That takes a system call for each, so a round is cut
// into portions that no event waits for.

#include <algorithm>

#include "relay/hub.h"

namespace evrelay {

void Hub::AwaitAck(Connection& connection) {
  if (static_cast<ListHook<WatchTag>&>(connection).linked()) return;
  unacked_.PushBack(connection);
  if (!ack_check_.scheduled()) ack_check_.Schedule(kAckCheckInterval);
}

void Hub::OnAckCheck() noexcept {
  const Clock::time_point now = Clock::now();
  std::size_t portion = kAckChecks;
  if (ack_round_.empty()) {
    ack_round_.TakeAll(unacked_);
  } else {
    // Turns may be long, and must not make the round longer.
    portion *= std::max<std::size_t>(1, (now - ack_checked_at_) / kAckCheckPause);
  }
  ack_checked_at_ = now;
  for (; portion != 0 && !ack_round_.empty(); --portion) {
    Connection& connection = ack_round_.PopFront();
    // A closing one has a deadline already.
    if (connection.state_ == Connection::State::kClosing || connection.Delivered()) continue;
    if (connection.Unreachable()) {
      Cut(connection, CloseReason::kDeadPeer, DropReason::kDeadPeer);
    } else {
      unacked_.PushBack(connection);
    }
  }
  if (!ack_round_.empty()) {
    ack_check_.Schedule(kAckCheckPause);
  } else if (!unacked_.empty()) {
    ack_check_.Schedule(kAckCheckInterval);
  }
}

}  // namespace evrelay
