#include "relay/hub.h"

#include <algorithm>
#include <new>
#include <string>
#include <utility>

#include "evrelay/netstring.h"

namespace evrelay {

Hub::Hub(Loop& loop, const Config& config, Counters& counters)
    : config_(config),
      counters_(counters),
      log_(config.netstring_format ? BroadcastLog::Format::kNetstring : BroadcastLog::Format::kRaw),
      deadline_(loop, TimerEvent::To<&Hub::OnDeadline>(this)),
      stalled_(loop, TimerEvent::To<&Hub::OnStalled>(this)),
      ack_check_(loop, TimerEvent::To<&Hub::OnAckCheck>(this)),
      expiry_(loop, TimerEvent::To<&Hub::OnExpiry>(this)) {}

Hub::~Hub() {
  for (SendQueue* queue : {&admitting_, &caught_up_, &due_, &blocked_, &lingering_}) {
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

std::size_t Hub::Relay(const AlikeFrames& run) {
  log_.AppendRun(run);
  counters_.events.relayed += run.count;
  counters_.events.bytes += run.count * run.payload_bytes;
  counters_.deliveries.due += run.count * live();
  return live();
}

std::size_t Hub::Multicast(std::string_view payload, std::string_view tag) {
  const TagIndex::Members* members = tags_.Find(tag);
  if (members == nullptr) return 0;
  const Frame frame = Encode(payload);
  std::size_t queued = 0;
  for (const std::uint32_t conidx : *members) queued += Push(*table_.At(conidx), frame);
  return queued;
}

std::size_t Hub::Unicast(std::string_view payload, std::string_view tag) {
  const TagIndex::Members* members = tags_.Find(tag);
  if (members == nullptr) return 0;
  if (!Push(*table_.At(*members->begin()), Encode(payload))) throw std::bad_alloc();
  return 1;
}

Frame Hub::Encode(std::string_view payload) const {
  return Frame(config_.netstring_format ? netstring::Encode(payload) : std::string(payload));
}

bool Hub::Push(Connection& connection, Frame frame) {
  ++counters_.deliveries.due;
  try {
    connection.outbox_.Push(log_, std::move(frame));
  } catch (const std::bad_alloc&) {
    ++counters_.deliveries.dropped[DropReason::kNoMemory];
    return false;
  }
  ++pushed_;
  direct_bound_ = std::max<std::uint64_t>(direct_bound_, connection.outbox_.direct_bytes());
  if (connection.queue_ == Connection::Queue::kCaughtUp) {
    MoveTo(connection, Connection::Queue::kDue);
  }
  return true;
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
      if (connection.state_ != Connection::State::kClosing) {
        AwaitAck(connection);
        MoveTo(connection, Connection::Queue::kCaughtUp);
        return;
      }
      static_cast<ListHook<WatchTag>&>(connection).Unlink();
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
      AwaitAck(connection);
      MoveTo(connection, Connection::Queue::kBlocked);
      return;
    case Connection::SendResult::kBroken:
      OnGone(connection, CloseReason::kReset);
      return;
    case Connection::SendResult::kDead:
      OnGone(connection, CloseReason::kDeadPeer);
      return;
    case Connection::SendResult::kStarved:
      OnGone(connection, CloseReason::kNoMemory);
      return;
  }
}

void Hub::MoveTo(Connection& connection, Connection::Queue queue) {
  using Queue = Connection::Queue;
  if (connection.queue_ == Queue::kBlocked) --blocked_count_;
  if (connection.queue_ == Queue::kAdmitting) --admitting_count_;
  connection.queue_ = queue;
  switch (queue) {
    case Queue::kNone:
      static_cast<ListHook<SendQueueTag>&>(connection).Unlink();
      break;
    case Queue::kAdmitting:
      admitting_.PushBack(connection);
      ++admitting_count_;
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

// --- for status ---

std::uint64_t Hub::MaxLag() {
  std::uint64_t max = 0;
  for (SendQueue* queue : {&admitting_, &caught_up_, &due_, &blocked_}) {
    for (Connection& connection : *queue) {
      if (connection.state_ != Connection::State::kClosing) {
        max = std::max(max, connection.outbox_.Lag(log_));
      }
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
  for (SendQueue* queue : {&admitting_, &caught_up_, &due_, &blocked_}) {
    for (Connection& connection : *queue) sum += connection.outbox_.Queued(log_);
  }
  return sum;
}

}  // namespace evrelay
