// Of the hub: what an operator sees and does.

#include "relay/hub.h"

namespace evrelay {

std::uint64_t Hub::LagOf(const Connection& connection) const {
  // A lingering connection's outbox has ended.
  if (connection.queue_ == Connection::Queue::kLingering) return 0;
  return connection.outbox_.Lag(log_);
}

Hub::CloseResult Hub::Close(std::uint32_t conidx) {
  Connection* connection = table_.FirstFrom(conidx);
  if (connection == nullptr || connection->id_.conidx != conidx) return CloseResult::kNoConnection;
  switch (connection->state_) {
    case Connection::State::kAdmitting:
      Refuse(*connection, CloseReason::kAdmin);
      break;
    case Connection::State::kLive:
    case Connection::State::kEnding:
      BeginClose(*connection, CloseReason::kAdmin);
      break;
    case Connection::State::kClosing:
      return CloseResult::kClosing;
  }
  return CloseResult::kBegun;
}

}  // namespace evrelay
