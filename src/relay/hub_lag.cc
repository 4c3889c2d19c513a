// Of the hub: what becomes of those that lag.

#include <algorithm>
#include <new>

#include "evrelay/netstring.h"
#include "relay/hub.h"

namespace evrelay {

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
      Outbox::Skipped result;
      try {
        result = laggard.outbox_.SkipTo(log_, kept, laggard.HasBegun());
      } catch (const std::bad_alloc&) {
        Cut(laggard, CloseReason::kNoMemory, DropReason::kNoMemory);
        return Lagging::kGone;
      }
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

}  // namespace evrelay
