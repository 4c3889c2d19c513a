// Of the hub: peers that are gone without a word. The kernel finds those that nothing is sent to;
// those that something is sent to would stay for a quarter of an hour, so they are looked at every
// few seconds, as long as anybody has something to acknowledge.

#include "relay/hub.h"

namespace evrelay {

void Hub::OnAckCheck() noexcept {
  bool awaited = false;
  for (SendQueue* queue : {&caught_up_, &due_, &blocked_}) {
    for (auto at = queue->begin(); at != queue->end();) {
      Connection& connection = *at;
      ++at;
      // A closing one has a deadline already.
      if (connection.state_ == Connection::State::kClosing || connection.Delivered()) continue;
      if (connection.Unreachable()) {
        Cut(connection, CloseReason::kDeadPeer, DropReason::kDeadPeer);
      } else {
        awaited = true;
      }
    }
  }
  if (awaited) ack_check_.Schedule(kAckCheckInterval);
}

}  // namespace evrelay
