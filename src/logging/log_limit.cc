#include "logging/log_limit.h"

#include <utility>

namespace evrelay {

bool LogLimit::Allow(Clock::time_point now) noexcept {
  const std::lock_guard lock(mutex_);
  Clock::time_point& oldest = allowed_at_[allowed_ % lines_];
  if (allowed_ >= lines_ && now - oldest < std::chrono::seconds(1)) {
    ++suppressed_;
    return false;
  }
  oldest = now;
  ++allowed_;
  return true;
}

std::uint64_t LogLimit::TakeSuppressed() noexcept {
  const std::lock_guard lock(mutex_);
  return std::exchange(suppressed_, 0);
}

}  // namespace evrelay
