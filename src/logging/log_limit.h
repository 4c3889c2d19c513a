// Keeps one place from flooding the log. One object a place, which mostly is a place of the code
// and the object static; any thread.

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

  static constexpr std::size_t kMaxLines = 10;

  // `lines` a second: 1 to kMaxLines.
  explicit constexpr LogLimit(std::size_t lines = kMaxLines) : lines_(lines) {}

  // True for at most that many calls within any second; counts the others.
  bool Allow(Clock::time_point now = Clock::now()) noexcept;

  // How many calls were not allowed since this was last asked.
  std::uint64_t TakeSuppressed() noexcept;

 private:
  const std::size_t lines_;
  std::mutex mutex_;
  std::array<Clock::time_point, kMaxLines> allowed_at_{};  // a ring of lines_
  std::uint64_t allowed_ = 0;
  std::uint64_t suppressed_ = 0;
};

}  // namespace evrelay

#endif  // EVRELAY_LOGGING_LOG_LIMIT_H_
