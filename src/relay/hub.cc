#include "relay/hub.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "evrelay/netstring.h"
#include "logging/log.h"

namespace evrelay {

namespace {

constexpr std::string_view kLogger = "relay";

// Ends that are part of a peer's ordinary life; the others are worth a warning.
bool Ordinary(CloseReason reason) {
  return reason == CloseReason::kEof || reason == CloseReason::kReset ||
         reason == CloseReason::kDrain;
}

}  // namespace

Hub::Hub(Loop& loop, const Config& config, Counters& counters)
    : config_(config),
      counters_(counters),
      log_(config.netstring_format ? BroadcastLog::Format::kNetstring : BroadcastLog::Format::kRaw),
      deadline_(loop, TimerEvent::To<&Hub::OnDeadline>(this)),
      stalled_(loop, TimerEvent::To<&Hub::OnStalled>(this)) {}

Hub::~Hub() {
  for (SendQueue* queue : {&caught_up_, &due_, &blocked_, &lingering_}) {
    while (!queue->empty()) delete &queue->PopFront();
  }
}

// --- verbs ---

void Hub::RelayRun(std::string_view wire, std::uint32_t frames, std::uint64_t payload_bytes) {
  if (!config_.netstring_format) {
    const netstring::Limits any{.data = UINT32_MAX};
    while (!wire.empty()) {
      const netstring::Decoded frame = netstring::Decode(wire, any);
      Relay(frame.payload);
      wire.remove_prefix(frame.consumed);
    }
    return;
  }
  log_.AppendRun(wire, frames);
  counters_.events.relayed += frames;
  counters_.events.bytes += payload_bytes;
  counters_.deliveries.due += frames * live();
}

std::size_t Hub::Relay(std::string_view payload) {
  log_.AppendEvent(payload);
  counters_.events.relayed += 1;
  counters_.events.bytes += payload.size();
  counters_.deliveries.due += live();
  return live();
}

// --- connections ---

Connection& Hub::Admit(std::unique_ptr<Connection> owned) {
  Connection& connection = *owned.release();
  connection.id_ = table_.Insert(connection);
  connection.outbox_.Start(log_);
  ++connections_;
  ++counters_.subscribers.accepted;
  MoveTo(connection, Connection::Queue::kDue);
  return connection;
}

void Hub::BeginClose(Connection& connection, CloseReason reason) {
  if (connection.closing_) return;
  EndLife(connection, reason);
  connection.outbox_.Stop(log_);
  connection.StopReading();
  if (reason != CloseReason::kDrain) {
    connection.deadline_ = Clock::now() + kClosingTime;
    closing_.PushBack(connection);
    ScheduleDeadline();
  }
  if (connection.queue_ != Connection::Queue::kBlocked) {
    MoveTo(connection, Connection::Queue::kDue);
  }
}

void Hub::OnGone(Connection& connection, CloseReason reason) {
  if (connection.closing_) {
    if (connection.queue_ != Connection::Queue::kLingering) {
      DropUnsent(connection, DropReason::kClosing);
    }
    Delete(connection);
  } else {
    Cut(connection, reason, DropReason::kReset);
  }
}

void Hub::OnWritable(Connection& connection) {
  if (connection.queue_ == Connection::Queue::kBlocked) {
    MoveTo(connection, Connection::Queue::kDue);
  }
}

void Hub::EndLife(Connection& connection, CloseReason reason) {
  assert(!connection.closing_);
  connection.closing_ = true;
  connection.close_reason_ = reason;
  table_.Erase(connection.id_);
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

void Hub::Cut(Connection& connection, CloseReason reason, DropReason drop) {
  EndLife(connection, reason);
  DropUnsent(connection, drop);
  Delete(connection);
}

void Hub::DropUnsent(Connection& connection, DropReason reason) {
  const Outbox::Abandoned rest = connection.outbox_.Abandon(log_);
  counters_.deliveries.written += rest.written;
  counters_.deliveries.dropped[reason] += rest.dropped;
  connection.Reset();
}

void Hub::Delete(Connection& connection) {
  MoveTo(connection, Connection::Queue::kNone);
  --connections_;
  delete &connection;
}

void Hub::MoveTo(Connection& connection, Connection::Queue queue) {
  using Queue = Connection::Queue;
  if (connection.queue_ == Queue::kBlocked) --blocked_count_;
  connection.queue_ = queue;
  switch (queue) {
    case Queue::kNone:
      static_cast<ListHook<SendQueueTag>&>(connection).Unlink();
      break;
    case Queue::kCaughtUp:
      caught_up_.PushBack(connection);
      break;
    case Queue::kDue:
      due_.PushBack(connection);
      break;
    case Queue::kBlocked:
      blocked_.PushBack(connection);
      ++blocked_count_;
      break;
    case Queue::kLingering:
      lingering_.PushBack(connection);
      break;
  }
}

// --- turns ---

void Hub::Flush() {
  if (log_.end() != log_.mark()) due_.TakeAll(caught_up_);
  while (!due_.empty()) Deliver(due_.front());
  log_.Mark();
  ApplySlowPolicy();
}

void Hub::Deliver(Connection& connection) {
  const Connection::Sent sent = connection.Send(log_);
  switch (sent.result) {
    case Connection::SendResult::kDrained:
      if (!connection.closing_) {
        MoveTo(connection, Connection::Queue::kCaughtUp);
        return;
      }
      static_cast<ListHook<ClosingTag>&>(connection).Unlink();
      if (!connection.Linger()) {
        Delete(connection);
        return;
      }
      connection.deadline_ = Clock::now() + kLingerTime;
      MoveTo(connection, Connection::Queue::kLingering);
      ScheduleDeadline();
      return;
    case Connection::SendResult::kBlocked:
      if (sent.bytes != 0) connection.progress_ = Clock::now();
      MoveTo(connection, Connection::Queue::kBlocked);
      return;
    case Connection::SendResult::kBroken:
      OnGone(connection, CloseReason::kReset);
      return;
  }
}

// The one place where a lag has consequences. Only blocked subscribers have one.
void Hub::ApplySlowPolicy() {
  const SlowSubscriberConfig& slow = config_.slow_subscriber;
  const Position end = log_.end().position;
  bool hold = false;
  Clock::time_point next_stall = Clock::time_point::max();
  if (end - log_.oldest() >= slow.max_lag) {
    const Clock::time_point now = Clock::now();
    const Boundary kept =
        slow.policy == SlowPolicy::kSkip ? log_.FirstFrameFrom(end - slow.max_lag) : Boundary{};
    for (auto at = blocked_.begin(); at != blocked_.end();) {
      Connection& laggard = *at;
      ++at;
      if (laggard.closing_) {
        // What is due to it is bounded, but it keeps the log from freeing what came later.
        if (laggard.outbox_.Beyond(log_) < slow.max_lag) continue;
        DropUnsent(laggard, DropReason::kClosing);
        Delete(laggard);
        continue;
      }
      if (laggard.outbox_.Lag(log_) < slow.max_lag) continue;
      switch (slow.policy) {
        case SlowPolicy::kDisconnect:
          Cut(laggard, CloseReason::kSlowSubscriber, DropReason::kSlowSubscriber);
          break;
        case SlowPolicy::kSkip: {
          const Outbox::Skipped result = laggard.outbox_.SkipTo(log_, kept);
          counters_.deliveries.written += result.written;
          counters_.deliveries.dropped[DropReason::kSkipped] += result.skipped;
          if (laggard.outbox_.direct_bytes() > slow.max_lag) {
            Cut(laggard, CloseReason::kSlowSubscriber, DropReason::kSlowSubscriber);
          }
          break;
        }
        case SlowPolicy::kBlock:
          if (holding_ && StallDeadline(laggard) <= probed_at_) {
            Cut(laggard, CloseReason::kStalled, DropReason::kStalled);
            break;
          }
          if (!holding_) {
            held_since_ = now;
            ++counters_.loop.holds;
          }
          holding_ = hold = true;
          next_stall = std::min(next_stall, StallDeadline(laggard));
          break;
      }
    }
    log_.Trim();
    if (hold) stalled_.Schedule(next_stall - now);
  }
  if (hold) return;
  holding_ = false;
  stalled_.Cancel();
}

Hub::Clock::time_point Hub::StallDeadline(const Connection& holder) const {
  return std::max(holder.progress_, held_since_) + config_.slow_subscriber.stall_timeout;
}

void Hub::OnStalled() noexcept {
  // The kernel calls a socket writable only when a good part of its buffer is free: whoever takes
  // bytes slowly is found out by trying. The flush that ends this turn tries, and cuts those to
  // whom that made no difference.
  probed_at_ = Clock::now();
  for (auto at = blocked_.begin(); at != blocked_.end();) {
    Connection& holder = *at;
    ++at;
    if (!holder.closing_ && StallDeadline(holder) <= probed_at_) {
      MoveTo(holder, Connection::Queue::kDue);
    }
  }
}

// --- the end ---

void Hub::Drain() {
  for (SendQueue* queue : {&caught_up_, &due_, &blocked_}) {
    for (auto at = queue->begin(); at != queue->end();) {
      Connection& connection = *at;
      ++at;
      BeginClose(connection, CloseReason::kDrain);
    }
  }
}

void Hub::CutAll() {
  for (SendQueue* queue : {&caught_up_, &due_, &blocked_, &lingering_}) {
    while (!queue->empty()) {
      Connection& connection = queue->front();
      if (!connection.closing_) EndLife(connection, CloseReason::kDrain);
      if (queue != &lingering_) DropUnsent(connection, DropReason::kDrain);
      Delete(connection);
    }
  }
}

void Hub::ScheduleDeadline() {
  Clock::time_point next = Clock::time_point::max();
  if (!closing_.empty()) next = closing_.front().deadline_;
  if (!lingering_.empty()) next = std::min(next, lingering_.front().deadline_);
  if (next != Clock::time_point::max()) deadline_.Schedule(next - Clock::now());
}

void Hub::OnDeadline() noexcept {
  const Clock::time_point now = Clock::now();
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

// --- for status ---

std::uint64_t Hub::MaxLag() {
  std::uint64_t max = 0;
  for (SendQueue* queue : {&caught_up_, &due_, &blocked_}) {
    for (Connection& connection : *queue) {
      if (!connection.closing_) max = std::max(max, connection.outbox_.Lag(log_));
    }
  }
  return max;
}

void Hub::CountWritten() {
  for (SendQueue* queue : {&due_, &blocked_}) {
    for (Connection& connection : *queue) {
      counters_.deliveries.written += connection.outbox_.CountWritten(log_);
    }
  }
}

std::uint64_t Hub::Queued() {
  std::uint64_t sum = 0;
  for (SendQueue* queue : {&caught_up_, &due_, &blocked_}) {
    for (Connection& connection : *queue) sum += connection.outbox_.Queued(log_);
  }
  return sum;
}

}  // namespace evrelay
