#include "logging/log.h"

#include <pthread.h>
#include <signal.h>
#include <spdlog/async_logger.h>
#include <spdlog/details/thread_pool.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/syslog_sink.h>
#ifdef EVRELAY_WITH_SYSTEMD
#include <spdlog/sinks/systemd_sink.h>
#endif
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "logging/descriptor_sink.h"

namespace evrelay {

std::atomic<LogLevel> log_internal::level = LogLevel::kInfo;

namespace {

using Clock = std::chrono::steady_clock;
using ThreadPool = spdlog::details::thread_pool;

constexpr std::size_t kQueuedLines = 4096;

// The sink that the log's thread writes to: hands lines to the target, counts what is lost on the
// way and says so.
class CountingSink final : public spdlog::sinks::sink {
 public:
  CountingSink(std::shared_ptr<spdlog::sinks::sink> target, ThreadPool& pool)
      : target_(std::move(target)), pool_(pool) {}

  void log(const spdlog::details::log_msg& message) override {
    ReportLost();
    if (!TryWrite(message)) ++refused_;
  }

  void flush() override {
    ReportLost();
    const std::lock_guard lock(mutex_);
    if (!stopping_ || pool_.queue_size() != 0) return;
    drained_ = true;
    wake_.notify_one();
  }

  void set_pattern(const std::string& pattern) override { target_->set_pattern(pattern); }
  void set_formatter(std::unique_ptr<spdlog::formatter> formatter) override {
    target_->set_formatter(std::move(formatter));
  }

  // Other threads: the next flush that finds the queue empty ends the wait of WaitDrained.
  void Stop() {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  bool WaitDrained(std::chrono::milliseconds patience) {
    std::unique_lock lock(mutex_);
    return wake_.wait_for(lock, patience, [this] { return drained_; });
  }

 private:
  bool TryWrite(const spdlog::details::log_msg& message) {
    try {
      target_->log(message);
      return true;
    } catch (...) {
      return false;
    }
  }

  // At most once a second while lines keep coming.
  void ReportLost() {
    const std::uint64_t lost = refused_ + pool_.overrun_counter();
    if (lost == reported_) return;
    const Clock::time_point now = Clock::now();
    if (now - reported_at_ < std::chrono::seconds(1) && pool_.queue_size() != 0) return;
    const std::string text = fmt::format(
        "{} log lines were lost as they could not be written in time", lost - reported_);
    if (!TryWrite({"logging", spdlog::level::warn, text})) return;
    reported_ = lost;
    reported_at_ = now;
  }

  const std::shared_ptr<spdlog::sinks::sink> target_;
  ThreadPool& pool_;
  std::uint64_t refused_ = 0;
  std::uint64_t reported_ = 0;
  Clock::time_point reported_at_{};

  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  bool drained_ = false;
};

// A target with its queue and thread. Members end in reverse order: the thread first.
struct Backend {
  std::shared_ptr<DescriptorSink> descriptor;  // none for syslog and journald
  std::shared_ptr<CountingSink> sink;
  std::shared_ptr<spdlog::async_logger> logger;  // what the queue knows the sink by
  std::shared_ptr<ThreadPool> pool;

  void Post(const spdlog::details::log_msg& message) {
    pool->post_log(std::shared_ptr(logger), message, spdlog::async_overflow_policy::overrun_oldest);
  }
};

// Never destroyed: lines may come until the process ends.
struct State {
  std::mutex mutex;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<DescriptorSink> early;  // for lines without a backend, made for the first one
  std::vector<std::unique_ptr<Backend>> abandoned;
};

State& state() {
  static State& state = *new State;
  return state;
}

// syslog and journald add time and level themselves.
std::shared_ptr<spdlog::sinks::sink> WithoutTime(std::shared_ptr<spdlog::sinks::sink> sink) {
  sink->set_formatter(std::make_unique<spdlog::pattern_formatter>(
      "%n: %v", spdlog::pattern_time_type::utc, std::string()));
  return sink;
}

std::shared_ptr<spdlog::sinks::sink> OpenJournal() {
#ifdef EVRELAY_WITH_SYSTEMD
  // The journal's own library loses everything in silence where there is no journal.
  constexpr char kSocket[] = "/run/systemd/journal/socket";
  if (::access(kSocket, F_OK) != 0) {
    throw std::runtime_error("log.target: journald does not run here (there is no " +
                             std::string(kSocket) + "); use stderr, syslog or a file");
  }
  return WithoutTime(std::make_shared<spdlog::sinks::systemd_sink_st>("evrelay", true));
#else
  throw std::runtime_error(
      "log.target: this evrelay was built without journald; use stderr, syslog or a file");
#endif
}

std::unique_ptr<Backend> Open(const std::string& target) {
  auto backend = std::make_unique<Backend>();
  std::shared_ptr<spdlog::sinks::sink> sink;
  if (target == "syslog") {
    sink = WithoutTime(
        std::make_shared<spdlog::sinks::syslog_sink_st>("evrelay", LOG_PID, LOG_DAEMON, true));
  } else if (target == "journald") {
    sink = OpenJournal();
  } else if (target == "stderr") {
    sink = backend->descriptor = std::make_shared<DescriptorSink>(STDERR_FILENO);
  } else if (target.starts_with('/')) {
    sink = backend->descriptor = std::make_shared<DescriptorSink>(target);
  } else {
    throw std::runtime_error("log.target: " + Escaped(target) +
                             " is none of stderr, syslog, journald, a file's absolute path");
  }

  // Signals are the main thread's business.
  const auto block_signals = [] {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, nullptr);
  };
  try {
    backend->pool = std::make_shared<ThreadPool>(kQueuedLines, 1, block_signals);
  } catch (const std::system_error& error) {
    throw std::system_error(error.code(), "cannot start a thread for the log");
  }
  backend->sink = std::make_shared<CountingSink>(std::move(sink), *backend->pool);
  backend->logger = std::make_shared<spdlog::async_logger>(
      "evrelay", backend->sink, backend->pool, spdlog::async_overflow_policy::overrun_oldest);
  // spdlog's own handler writes to stderr and may wait there.
  backend->logger->set_error_handler([](const std::string&) {});
  return backend;
}

void Close(std::unique_ptr<Backend> backend) {
  backend->sink->Stop();
  backend->pool->post_flush(std::shared_ptr(backend->logger),
                            spdlog::async_overflow_policy::overrun_oldest);
  if (backend->sink->WaitDrained(std::chrono::milliseconds(600))) return;
  if (backend->descriptor) backend->descriptor->Hurry();
  if (backend->sink->WaitDrained(std::chrono::milliseconds(300))) return;
  // The thread hangs in a write. Waiting for it could take for ever, so it keeps what it uses.
  const std::lock_guard lock(state().mutex);
  state().abandoned.push_back(std::move(backend));
}

spdlog::level::level_enum SpdlogLevel(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarn:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

}  // namespace

void SetUpLogging(const LogConfig& config) {
  std::unique_ptr<Backend> backend = Open(config.target);
  SetLogLevel(config.level);
  {
    const std::lock_guard lock(state().mutex);
    state().backend.swap(backend);
  }
  if (backend) Close(std::move(backend));
}

void SetLogLevel(LogLevel level) noexcept {
  log_internal::level.store(level, std::memory_order_relaxed);
}

void ReopenLogFile() noexcept {
  const std::lock_guard lock(state().mutex);
  Backend* backend = state().backend.get();
  if (backend == nullptr || !backend->descriptor || !backend->descriptor->is_file()) return;
  backend->descriptor->Reopen();
  backend->Post({"logging", spdlog::level::info, "asked to reopen the log file"});
}

void ShutDownLogging() noexcept {
  std::unique_ptr<Backend> backend;
  {
    const std::lock_guard lock(state().mutex);
    state().backend.swap(backend);
    state().early.reset();
  }
  if (backend) Close(std::move(backend));
}

void log_internal::Write(LogLevel line_level, LogLimit* limit, std::string_view logger,
                         fmt::string_view format, fmt::format_args args) noexcept {
  if (limit != nullptr && !limit->Allow()) return;
  try {
    spdlog::memory_buf_t text;
    fmt::vformat_to(std::back_inserter(text), format, args);
    if (const std::uint64_t suppressed = limit != nullptr ? limit->TakeSuppressed() : 0) {
      fmt::format_to(std::back_inserter(text), " ({} more suppressed)", suppressed);
    }
    std::string_view line(text.data(), text.size());
    std::string escaped;
    if (std::any_of(line.begin(), line.end(), IsControl)) {
      escaped = OneLine(line);
      line = escaped;
    }

    const spdlog::details::log_msg message(logger, SpdlogLevel(line_level), line);
    const std::lock_guard lock(state().mutex);
    if (Backend* backend = state().backend.get()) {
      backend->Post(message);
      return;
    }
    std::unique_ptr<DescriptorSink>& early = state().early;
    if (!early) early = std::make_unique<DescriptorSink>(STDERR_FILENO);
    early->log(message);
  } catch (...) {
    // Out of memory, or stderr takes nothing before the log is set up: there is no one left to
    // tell.
  }
}

}  // namespace evrelay
