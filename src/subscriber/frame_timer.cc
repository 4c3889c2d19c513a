#include "subscriber/frame_timer.h"

#include "subscriber/subscriber.h"

namespace evrelay {

FrameTimer::FrameTimer(Loop& loop, const Config& config)
    : config_(config), timer_(loop, TimerEvent::To<&FrameTimer::OnTime>(this)) {}

FrameTimer::~FrameTimer() = default;

void FrameTimer::Begin(Subscriber& subscriber) {
  static_cast<BegunFrame&>(subscriber).began_ = Loop::Now();
  begun_.PushBack(subscriber);
  if (!timer_.scheduled()) timer_.Schedule(config_.frame_timeout);
}

std::chrono::steady_clock::time_point FrameTimer::FirstDeadline() {
  return static_cast<BegunFrame&>(begun_.front()).began_ + config_.frame_timeout;
}

void FrameTimer::Schedule() {
  if (!begun_.empty()) timer_.Schedule(FirstDeadline() - Loop::Now());
}

void FrameTimer::OnTime() noexcept {
  const auto now = Loop::Now();
  while (!begun_.empty() && FirstDeadline() <= now) begun_.front().OnFrameTimeout();
  Schedule();
}

}  // namespace evrelay
