// Of the hub: peers that are gone without a word. The kernel finds those that nothing is sent to;
// those that something is sent to would stay for a quarter of an hour, so they are looked at every
// few seconds until they have acknowledged it. That takes a system call for each, so a round is cut
// into portions that no event waits for.

#include "relay/hub.h"

namespace evrelay {

void Hub::AwaitAck(Connection& connection) {
  if (static_cast<ListHook<WatchTag>&>(connection).linked()) return;
  unacked_.PushBack(connection);
  if (!ack_check_.scheduled()) ack_check_.Schedule(kAckCheckInterval);
}

void Hub::OnAckCheck() noexcept {
  if (ack_round_.empty()) ack_round_.TakeAll(unacked_);
  for (std::size_t i = 0; i < kAckChecks && !ack_round_.empty(); ++i) {
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
