// The log: one line an occurrence, in UTC, in the form
//   2026-01-31T12:00:00.123456Z info subscriber: text
// where the second word after the time is the folder that speaks. Log functions may be called from
// any thread; they never wait and never throw. A thread of its own writes the lines. When it cannot
// keep up, the oldest queued lines are dropped, and so are lines that the target does not take; a
// line in the log says how many were lost.
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

#include <atomic>
#include <string_view>

#include "config/config.h"
#include "logging/escaped.h"
#include "logging/log_limit.h"

namespace evrelay {

// Opens the target and starts the log's thread. May be called again with another configuration.
// Throws std::runtime_error when the target cannot be used; then nothing has changed.
void SetUpLogging(const LogConfig& config);

// Any thread.
void SetLogLevel(LogLevel level) noexcept;

// Opens the log file by its path once more, so that it can be rotated: lines logged before go to
// the old file, lines logged after to the new one, the first of which says so. If that fails, the
// old file is kept and the log says why. Nothing happens for other targets.
void ReopenLogFile() noexcept;

// Writes what is queued, for at most one second.
void ShutDownLogging() noexcept;

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
