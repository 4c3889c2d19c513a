// Of the hub: how connections come, end and are destroyed.

#include <algorithm>
#include <cassert>
#include <new>
#include <utility>

#include "logging/log.h"
#include "relay/hub.h"

namespace evrelay {

namespace {

constexpr std::string_view kLogger = "relay";

// Ends that are part of a peer's ordinary life; the others are worth a warning.
bool Ordinary(CloseReason reason) {
  return reason == CloseReason::kEof || reason == CloseReason::kReset ||
         reason == CloseReason::kHook || reason == CloseReason::kDrain;
}

}  // namespace

Connection& Hub::Add(std::unique_ptr<Connection> owned) {
  owned->id_ = table_.Insert(*owned);
  bool admitting;
  try {
    admitting = owned->AnnounceNew();
  } catch (const std::bad_alloc&) {
    table_.Release(owned->id_);
    throw;
  }
  Connection& connection = *owned.release();
  ++connections_;
  ++live_;
  ++counters_.subscribers.accepted;
  connection.outbox_.Start(log_, admitting ? Outbox::Begin::kHeld : Outbox::Begin::kSent);
  if (admitting) {
    connection.deadline_ = Clock::now() + kAdmissionTime;
    MoveTo(connection, Connection::Queue::kAdmitting);
    ScheduleDeadline();
  } else {
    Admit(connection);
  }
  return connection;
}

void Hub::End(Connection& connection, CloseReason reason) noexcept {
  if (connection.end_announced_) return;
  connection.StopReading();
  AnnounceEnd(connection, reason);
  if (!connection.awaits_closed_) {
    BeginClose(connection, reason);
  } else if (connection.state_ == Connection::State::kLive) {
    connection.state_ = Connection::State::kEnding;
  }
}

void Hub::AnnounceEnd(Connection& connection, CloseReason reason) noexcept {
  if (connection.end_announced_) return;
  connection.end_announced_ = true;
  connection.close_reason_ = reason;
  connection.awaits_closed_ = connection.AnnounceClosed(reason);
}

void Hub::BeginClose(Connection& connection, CloseReason reason) noexcept {
  EndLife(connection, reason);
  connection.outbox_.Stop(log_);
  connection.StopReading();
  if (connection.close_reason_ != CloseReason::kDrain) {
    connection.deadline_ = Clock::now() + kClosingTime;
    closing_.PushBack(connection);
    ScheduleDeadline();
  }
  if (connection.queue_ != Connection::Queue::kBlocked) {
    MoveTo(connection, Connection::Queue::kDue);
  }
}

void Hub::OnGone(Connection& connection, CloseReason reason) noexcept {
  if (connection.state_ == Connection::State::kClosing) {
    if (connection.queue_ != Connection::Queue::kLingering) {
      DropUnsent(connection, DropReason::kClosing);
    }
    Delete(connection);
  } else {
    Cut(connection, reason,
        reason == CloseReason::kDeadPeer ? DropReason::kDeadPeer : DropReason::kReset);
  }
}

void Hub::OnWritable(Connection& connection) {
  if (connection.queue_ == Connection::Queue::kBlocked) {
    MoveTo(connection, Connection::Queue::kDue);
  }
}

void Hub::EndLife(Connection& connection, CloseReason reason) noexcept {
  assert(connection.state_ != Connection::State::kClosing);
  connection.state_ = Connection::State::kClosing;
  AnnounceEnd(connection, reason);
  if (!connection.awaits_closed_) table_.Release(connection.id_);
  reason = connection.close_reason_;
  tags_.Set(connection.id_.conidx, {});
  --live_;
  ++counters_.subscribers.closed[reason];
  if (Ordinary(reason)) {
    LogDebug(kLogger, "subscriber {} (conidx {}) ends: {}", connection.Peer(),
             connection.id_.conidx, Name(reason));
  } else {
    static LogLimit limit;
    LogWarnLimited(limit, kLogger, "subscriber {} (conidx {}) is closed: {}; {} bytes behind",
                   connection.Peer(), connection.id_.conidx, Name(reason),
                   connection.outbox_.Lag(log_));
  }
}

void Hub::Cut(Connection& connection, CloseReason reason, DropReason drop) noexcept {
  EndLife(connection, reason);
  DropUnsent(connection, drop);
  Delete(connection);
}

void Hub::DropUnsent(Connection& connection, DropReason reason) noexcept {
  const Outbox::Abandoned rest = connection.outbox_.Abandon(log_);
  counters_.deliveries.written += rest.written;
  counters_.deliveries.dropped[reason] += rest.dropped;
  connection.Reset();
}

void Hub::Delete(Connection& connection) noexcept {
  MoveTo(connection, Connection::Queue::kNone);
  table_.Detach(connection.id_);
  --connections_;
  delete &connection;
}

// --- the end ---

void Hub::Drain() noexcept {
  for (SendQueue* queue : {&admitting_, &caught_up_, &due_, &blocked_}) {
    for (auto at = queue->begin(); at != queue->end();) {
      Connection& connection = *at;
      ++at;
      End(connection, CloseReason::kDrain);
    }
  }
}

void Hub::CutAll() noexcept {
  for (SendQueue* queue : {&admitting_, &caught_up_, &due_, &blocked_, &lingering_}) {
    while (!queue->empty()) {
      Connection& connection = queue->front();
      if (connection.state_ != Connection::State::kClosing) {
        EndLife(connection, CloseReason::kDrain);
      }
      if (queue != &lingering_) DropUnsent(connection, DropReason::kDrain);
      Delete(connection);
    }
  }
}

void Hub::ScheduleDeadline() {
  Clock::time_point next = Clock::time_point::max();
  if (!admitting_.empty()) next = admitting_.front().deadline_;
  if (!closing_.empty()) next = std::min(next, closing_.front().deadline_);
  if (!lingering_.empty()) next = std::min(next, lingering_.front().deadline_);
  if (next != Clock::time_point::max()) deadline_.Schedule(next - Clock::now());
}

void Hub::OnDeadline() noexcept {
  const Clock::time_point now = Clock::now();
  while (!admitting_.empty() && admitting_.front().deadline_ <= now) {
    Refuse(admitting_.front(), CloseReason::kAdmission);
  }
  while (!closing_.empty() && closing_.front().deadline_ <= now) {
    Connection& connection = closing_.front();
    DropUnsent(connection, DropReason::kClosing);
    Delete(connection);
  }
  while (!lingering_.empty() && lingering_.front().deadline_ <= now) {
    Connection& connection = lingering_.front();
    if (connection.close_reason_ == CloseReason::kDrain && !connection.Delivered()) {
      // The drain has its own deadline.
      connection.deadline_ = now + kLingerTime;
      MoveTo(connection, Connection::Queue::kLingering);
    } else {
      Delete(connection);
    }
  }
  ScheduleDeadline();
}

}  // namespace evrelay
