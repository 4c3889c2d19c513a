// Keeps one place of the code from flooding the log. One static object a place; any thread.

#ifndef EVRELAY_LOGGING_LOG_LIMIT_H_
#define EVRELAY_LOGGING_LOG_LIMIT_H_

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>

namespace evrelay {

class LogLimit {
 public:
  using Clock = std::chrono::steady_clock;

  static constexpr std::size_t kLinesPerSecond = 10;

  constexpr LogLimit() = default;

  // True for at most kLinesPerSecond calls within any second; counts the others.
  bool Allow(Clock::time_point now = Clock::now()) noexcept;

  // How many calls were not allowed since this was last asked.
  std::uint64_t TakeSuppressed() noexcept;

 private:
  std::mutex mutex_;
  std::array<Clock::time_point, kLinesPerSecond> allowed_at_{};  // a ring
  std::uint64_t allowed_ = 0;
  std::uint64_t suppressed_ = 0;
};

}  // namespace evrelay

#endif  // EVRELAY_LOGGING_LOG_LIMIT_H_
