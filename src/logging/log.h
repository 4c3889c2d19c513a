// The log: one line an occurrence, in UTC, in the form
//   2026-01-31T12:00:00.123456Z info subscriber: text
// where the second word after the time is the folder that speaks. Log functions may be called from
// any thread; they never wait and never throw. A thread of its own writes the lines. When it cannot
// keep up, the oldest queued lines are dropped; when the target takes nothing, the newest. A line
// in the log says how many were lost.
//
// Before SetUpLogging and after ShutDownLogging, lines are written to stderr by the caller, which
// then waits 100 ms at most.
//
// Bytes from outside belong through Escaped. Lines that a peer can cause belong behind a limit:
//   static LogLimit limit;
//   LogWarnLimited(limit, "subscriber", "{} sent a malformed frame", peer);

#ifndef EVRELAY_LOGGING_LOG_H_
#define EVRELAY_LOGGING_LOG_H_

#include <spdlog/fmt/fmt.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>

#include "config/config.h"

namespace evrelay {

// Opens the target and starts the log's thread. May be called again with another configuration.
// Throws std::runtime_error when the target cannot be used; then nothing has changed.
void SetUpLogging(const LogConfig& config);

// Any thread.
void SetLogLevel(LogLevel level) noexcept;

// Opens the log file by its path once more, so that it can be rotated: lines logged before go to
// the old file, lines logged after to the new one. If that fails, the old file is kept and the log
// says why. Nothing happens for other targets.
void ReopenLogFile() noexcept;

// Writes what is queued, for at most one second.
void ShutDownLogging() noexcept;

// `bytes` as part of one log line: control bytes, quotes, backslashes, characters that reorder a
// line and whatever is not UTF-8 become \xNN. Past `max` bytes it is cut, and its size appended.
std::string Escaped(std::string_view bytes, std::size_t max = 256);

// Lets through 10 lines in any second and counts the rest. One static object a place; any thread.
class LogLimit {
 public:
  static constexpr std::size_t kLinesPerSecond = 10;

  constexpr LogLimit() = default;

  bool Allow(std::chrono::steady_clock::time_point now = std::chrono::steady_clock::now()) noexcept;

  // How many lines were not allowed since the last call.
  std::uint64_t TakeSuppressed() noexcept;

 private:
  std::mutex mutex_;
  std::array<std::chrono::steady_clock::time_point, kLinesPerSecond> allowed_at_{};  // a ring
  std::uint64_t allowed_ = 0;
  std::uint64_t suppressed_ = 0;
};

namespace log_internal {

extern std::atomic<LogLevel> level;

// Writes one line if `limit`, where there is one, allows it.
void Write(LogLevel line_level, LogLimit* limit, std::string_view logger, fmt::string_view format,
           fmt::format_args args) noexcept;

}  // namespace log_internal

inline bool LogEnabled(LogLevel line_level) noexcept {
  return line_level >= log_internal::level.load(std::memory_order_relaxed);
}

template <class... Args>
void LogDebug(std::string_view logger, fmt::format_string<Args...> format,
              Args&&... args) noexcept {
  if (!LogEnabled(LogLevel::kDebug)) return;
  log_internal::Write(LogLevel::kDebug, nullptr, logger, format, fmt::make_format_args(args...));
}

template <class... Args>
void LogInfo(std::string_view logger, fmt::format_string<Args...> format, Args&&... args) noexcept {
  if (!LogEnabled(LogLevel::kInfo)) return;
  log_internal::Write(LogLevel::kInfo, nullptr, logger, format, fmt::make_format_args(args...));
}

template <class... Args>
void LogWarn(std::string_view logger, fmt::format_string<Args...> format, Args&&... args) noexcept {
  if (!LogEnabled(LogLevel::kWarn)) return;
  log_internal::Write(LogLevel::kWarn, nullptr, logger, format, fmt::make_format_args(args...));
}

template <class... Args>
void LogError(std::string_view logger, fmt::format_string<Args...> format,
              Args&&... args) noexcept {
  log_internal::Write(LogLevel::kError, nullptr, logger, format, fmt::make_format_args(args...));
}

// The limited ones end the first line after a pause with " (N more suppressed)".

template <class... Args>
void LogInfoLimited(LogLimit& limit, std::string_view logger, fmt::format_string<Args...> format,
                    Args&&... args) noexcept {
  if (!LogEnabled(LogLevel::kInfo)) return;
  log_internal::Write(LogLevel::kInfo, &limit, logger, format, fmt::make_format_args(args...));
}

template <class... Args>
void LogWarnLimited(LogLimit& limit, std::string_view logger, fmt::format_string<Args...> format,
                    Args&&... args) noexcept {
  if (!LogEnabled(LogLevel::kWarn)) return;
  log_internal::Write(LogLevel::kWarn, &limit, logger, format, fmt::make_format_args(args...));
}

template <class... Args>
void LogErrorLimited(LogLimit& limit, std::string_view logger, fmt::format_string<Args...> format,
                     Args&&... args) noexcept {
  log_internal::Write(LogLevel::kError, &limit, logger, format, fmt::make_format_args(args...));
}

}  // namespace evrelay

#endif  // EVRELAY_LOGGING_LOG_H_
