#include "relay/hub.h"

#include <algorithm>
#include <cassert>
#include <string>
#include <utility>
#include <variant>

#include "evrelay/netstring.h"
#include "logging/log.h"

namespace evrelay {

namespace {

constexpr std::string_view kLogger = "relay";

// Ends that are part of a peer's ordinary life; the others are worth a warning.
bool Ordinary(CloseReason reason) {
  return reason == CloseReason::kEof || reason == CloseReason::kReset ||
         reason == CloseReason::kHook || reason == CloseReason::kDrain;
}

template <class... Cases>
struct Overloaded : Cases... {
  using Cases::operator()...;
};
template <class... Cases>
Overloaded(Cases...) -> Overloaded<Cases...>;

}  // namespace

Hub::Hub(Loop& loop, const Config& config, Counters& counters)
    : config_(config),
      counters_(counters),
      log_(config.netstring_format ? BroadcastLog::Format::kNetstring : BroadcastLog::Format::kRaw),
      deadline_(loop, TimerEvent::To<&Hub::OnDeadline>(this)),
      stalled_(loop, TimerEvent::To<&Hub::OnStalled>(this)) {}

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

std::size_t Hub::Multicast(std::string_view payload, std::string_view tag) {
  const TagIndex::Members* members = tags_.Find(tag);
  if (members == nullptr) return 0;
  const Frame frame = Encode(payload);
  for (const std::uint32_t conidx : *members) Push(*table_.At(conidx), frame);
  return members->size();
}

std::size_t Hub::Unicast(std::string_view payload, std::string_view tag) {
  const TagIndex::Members* members = tags_.Find(tag);
  if (members == nullptr) return 0;
  Push(*table_.At(*members->begin()), Encode(payload));
  return 1;
}

Frame Hub::Encode(std::string_view payload) const {
  return Frame(config_.netstring_format ? netstring::Encode(payload) : std::string(payload));
}

void Hub::Push(Connection& connection, Frame frame) {
  ++pushed_;
  connection.outbox_.Push(log_, std::move(frame));
  direct_bound_ = std::max<std::uint64_t>(direct_bound_, connection.outbox_.direct_bytes());
  ++counters_.deliveries.due;
  if (connection.queue_ == Connection::Queue::kCaughtUp) {
    MoveTo(connection, Connection::Queue::kDue);
  }
}

// --- what a worker says ---

std::size_t Hub::Apply(const Command& command) {
  const std::uint64_t pushed_before = pushed_;
  CountCommand(command);
  if (Connection* connection = table_.Find(command.connection)) {
    if (command.messages != 0) connection->OnHandled(command.messages, command.bytes);
    if (connection->state_ == Connection::State::kAdmitting &&
        command.event == HookEventKind::kConnectionNew) {
      Decide(*connection, command);
    }
  }
  for (const Action& action : command.verdict.actions()) Execute(command.connection, action);
  if (command.event == HookEventKind::kConnectionClosed) {
    Connection* connection = table_.Find(command.connection);
    if (connection != nullptr && connection->state_ != Connection::State::kClosing) {
      BeginClose(*connection, connection->close_reason_);
    }
    table_.Release(command.connection);
  }
  return (pushed_ - pushed_before) * DirectQueue::kFrameCost;
}

void Hub::CountCommand(const Command& command) {
  counters_.messages.handled += command.runs;
  counters_.messages.dropped_no_hook += command.dropped_no_hook;
  counters_.messages.dropped_after_close += command.dropped_after_close;
  if (command.event != HookEventKind::kMessageReceived) {
    counters_.hook.runs[command.event] += command.outcome != HookOutcome::kNoRoute ? 1 : 0;
  }
  counters_.hook.runs[HookEventKind::kMessageReceived] += command.runs;
  switch (command.outcome) {
    case HookOutcome::kError:
    case HookOutcome::kTimeout:
    case HookOutcome::kMemory:
      ++counters_.hook.failed[command.outcome];
      break;
    case HookOutcome::kDone:
    case HookOutcome::kNoRoute:
    case HookOutcome::kCount:
      break;
  }
}

void Hub::Decide(Connection& connection, const Command& command) {
  if (command.outcome != HookOutcome::kDone && command.outcome != HookOutcome::kNoRoute) {
    Refuse(connection, CloseReason::kHookError);
    return;
  }
  // One that is closed by the same verdict gets what that verdict has for it, and nothing else.
  if (command.verdict.closes()) DropShare(connection);
  Admit(connection);
}

void Hub::Admit(Connection& connection) {
  connection.state_ =
      connection.end_announced_ ? Connection::State::kEnding : Connection::State::kLive;
  MoveTo(connection, Connection::Queue::kDue);
  if (connection.state_ == Connection::State::kLive) connection.StartReading();
}

void Hub::Refuse(Connection& connection, CloseReason reason) {
  DropShare(connection);
  BeginClose(connection, reason);
}

void Hub::DropShare(Connection& connection) {
  counters_.deliveries.dropped[DropReason::kRefused] +=
      connection.outbox_.SkipTo(log_, log_.end()).skipped;
}

void Hub::Execute(ConnectionId id, const Action& action) {
  auto& actions = counters_.hook.actions;
  // Null: it is gone, or its end has begun.
  const auto own = [&]() -> Connection* {
    Connection* connection = table_.Find(id);
    if (connection == nullptr || connection->state_ == Connection::State::kClosing) {
      ++counters_.hook.stale_actions;
      return nullptr;
    }
    return connection;
  };
  std::visit(Overloaded{
                 [&](const action::Relay& relay) {
                   ++actions.relay;
                   Relay(relay.evdata);
                 },
                 [&](const action::Multicast& multicast) {
                   ++actions.multicast;
                   Multicast(multicast.evdata, multicast.etag);
                 },
                 [&](const action::Unicast& unicast) {
                   ++actions.unicast;
                   Unicast(unicast.evdata, unicast.etag);
                 },
                 [&](const action::Reply& reply) {
                   ++actions.reply;
                   if (Connection* connection = own()) Push(*connection, Encode(reply.evdata));
                 },
                 [&](const action::Close&) {
                   ++actions.close;
                   if (Connection* connection = own()) BeginClose(*connection, CloseReason::kHook);
                 },
                 [&](const action::SetTag& tag) {
                   ++actions.set_tag;
                   if (own() != nullptr) tags_.Set(id.conidx, tag.etag);
                 },
             },
             action);
}

// --- connections ---

Connection& Hub::Add(std::unique_ptr<Connection> owned) {
  Connection& connection = *owned.release();
  connection.id_ = table_.Insert(connection);
  ++connections_;
  ++live_;
  ++counters_.subscribers.accepted;
  const bool admitting = connection.AnnounceNew();
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

void Hub::End(Connection& connection, CloseReason reason) {
  if (connection.end_announced_) return;
  connection.StopReading();
  AnnounceEnd(connection, reason);
  if (!connection.awaits_closed_) {
    BeginClose(connection, reason);
  } else if (connection.state_ == Connection::State::kLive) {
    connection.state_ = Connection::State::kEnding;
  }
}

void Hub::AnnounceEnd(Connection& connection, CloseReason reason) {
  if (connection.end_announced_) return;
  connection.end_announced_ = true;
  connection.close_reason_ = reason;
  connection.awaits_closed_ = connection.AnnounceClosed(reason);
}

void Hub::BeginClose(Connection& connection, CloseReason reason) {
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

void Hub::OnGone(Connection& connection, CloseReason reason) {
  if (connection.state_ == Connection::State::kClosing) {
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
  table_.Detach(connection.id_);
  --connections_;
  delete &connection;
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

// The one place where a lag has consequences. Only those that are blocked or being admitted have
// one.
void Hub::ApplySlowPolicy() {
  bool hold = false;
  Clock::time_point next_stall = Clock::time_point::max();
  if (SomeoneMayLag()) {
    const Clock::time_point now = Clock::now();
    CutUnadmitted();
    std::uint64_t direct = 0;
    for (auto at = blocked_.begin(); at != blocked_.end();) {
      Connection& laggard = *at;
      ++at;
      switch (ApplySlowPolicy(laggard)) {
        case Lagging::kGone:
          continue;
        case Lagging::kHolds:
          if (!holding_) {
            held_since_ = now;
            ++counters_.loop.holds;
          }
          holding_ = hold = true;
          next_stall = std::min(next_stall, StallDeadline(laggard));
          break;
        case Lagging::kStays:
          break;
      }
      direct = std::max<std::uint64_t>(direct, laggard.outbox_.direct_bytes());
    }
    direct_bound_ = direct;
    log_.Trim();
    if (hold) stalled_.Schedule(next_stall - now);
  }
  if (hold) return;
  holding_ = false;
  stalled_.Cancel();
}

bool Hub::SomeoneMayLag() const {
  return log_.end().position - log_.oldest() + direct_bound_ >= config_.slow_subscriber.max_lag;
}

void Hub::CutUnadmitted() {
  for (auto at = admitting_.begin(); at != admitting_.end();) {
    Connection& connection = *at;
    ++at;
    if (connection.outbox_.Lag(log_) >= config_.slow_subscriber.max_lag) {
      Cut(connection, CloseReason::kAdmission, DropReason::kRefused);
    }
  }
}

Hub::Lagging Hub::ApplySlowPolicy(Connection& laggard) {
  const SlowSubscriberConfig& slow = config_.slow_subscriber;
  if (laggard.state_ == Connection::State::kClosing) {
    // What is due to it is bounded, but it keeps the log from freeing what came later.
    if (laggard.outbox_.Beyond(log_) < slow.max_lag) return Lagging::kStays;
    DropUnsent(laggard, DropReason::kClosing);
    Delete(laggard);
    return Lagging::kGone;
  }
  const std::uint64_t lag = laggard.outbox_.Lag(log_);
  if (lag < slow.max_lag) return Lagging::kStays;
  switch (slow.policy) {
    case SlowPolicy::kDisconnect:
      Cut(laggard, CloseReason::kSlowSubscriber, DropReason::kSlowSubscriber);
      return Lagging::kGone;
    case SlowPolicy::kSkip: {
      const std::size_t direct = laggard.outbox_.direct_bytes();
      if (direct >= slow.max_lag) {
        Cut(laggard, CloseReason::kSlowSubscriber, DropReason::kSlowSubscriber);
        return Lagging::kGone;
      }
      const Boundary kept = log_.FirstFrameFrom(log_.end().position - (slow.max_lag - direct));
      const Outbox::Skipped result = laggard.outbox_.SkipTo(log_, kept);
      counters_.deliveries.written += result.written;
      counters_.deliveries.dropped[DropReason::kSkipped] += result.skipped;
      return Lagging::kStays;
    }
    case SlowPolicy::kBlock:
      if (lag >= slow.max_lag + HookAllowance()) {
        Cut(laggard, CloseReason::kSlowSubscriber, DropReason::kSlowSubscriber);
        return Lagging::kGone;
      }
      if (holding_ && StallDeadline(laggard) <= probed_at_) {
        Cut(laggard, CloseReason::kStalled, DropReason::kStalled);
        return Lagging::kGone;
      }
      return Lagging::kHolds;
  }
  return Lagging::kStays;
}

// What producers have sent by the time they are held back never closes anybody.
std::uint64_t Hub::HookAllowance() const {
  return std::max<std::uint64_t>(kHookAllowance,
                                 kTurnIntake + config_.max_event + netstring::kMaxOverhead);
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
    if (holder.state_ != Connection::State::kClosing && StallDeadline(holder) <= probed_at_) {
      MoveTo(holder, Connection::Queue::kDue);
    }
  }
}

// --- the end ---

void Hub::Drain() {
  for (SendQueue* queue : {&admitting_, &caught_up_, &due_, &blocked_}) {
    for (auto at = queue->begin(); at != queue->end();) {
      Connection& connection = *at;
      ++at;
      End(connection, CloseReason::kDrain);
    }
  }
}

void Hub::CutAll() {
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
