#include "logging/descriptor_sink.h"

#include <fcntl.h>
#include <poll.h>
#include <spdlog/pattern_formatter.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstddef>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace evrelay {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kPatience{100};

// spdlog's own names are not those of the configuration ("warning").
class LevelName final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&,
              spdlog::memory_buf_t& out) override {
    constexpr std::array<std::string_view, 7> kNames{"debug", "debug", "info", "warn",
                                                     "error", "error", ""};
    const std::string_view name = kNames[message.level];
    out.append(name.data(), name.data() + name.size());
  }
  std::unique_ptr<custom_flag_formatter> clone() const override {
    return std::make_unique<LevelName>();
  }
};

std::unique_ptr<spdlog::formatter> NewFormatter() {
  auto formatter = std::make_unique<spdlog::pattern_formatter>(spdlog::pattern_time_type::utc);
  formatter->add_flag<LevelName>('*').set_pattern("%Y-%m-%dT%H:%M:%S.%fZ %* %n: %v");
  return formatter;
}

// Non-blocking, so that a FIFO nobody reads is an error and does not hang the start.
UniqueFd OpenFile(const std::string& path) {
  UniqueFd fd(::open(path.c_str(),
                     O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640));
  if (!fd) {
    throw std::runtime_error("cannot open the log file " + path + ": " +
                             std::generic_category().message(errno));
  }
  return fd;
}

}  // namespace

DescriptorSink::DescriptorSink(int fd)
    : fd_(::fcntl(fd, F_DUPFD_CLOEXEC, 0)), formatter_(NewFormatter()) {}

DescriptorSink::DescriptorSink(std::string path)
    : path_(std::move(path)), fd_(OpenFile(path_)), formatter_(NewFormatter()) {}

void DescriptorSink::log(const spdlog::details::log_msg& message) {
  ReopenFor(message.time);
  Write(message);
}

void DescriptorSink::set_pattern(const std::string& pattern) {
  formatter_ = std::make_unique<spdlog::pattern_formatter>(pattern);
}

void DescriptorSink::set_formatter(std::unique_ptr<spdlog::formatter> formatter) {
  formatter_ = std::move(formatter);
}

void DescriptorSink::Write(const spdlog::details::log_msg& message) {
  spdlog::memory_buf_t line;
  if (torn_) line.push_back('\n');
  formatter_->format(message, line);
  WriteAll({line.data(), line.size()});
}

// Neither relies on O_NONBLOCK nor sets it. A pipe that polls writable takes PIPE_BUF bytes at
// once.
void DescriptorSink::WriteAll(std::string_view bytes) {
  const bool wait = !stuck_ && !hurry_;
  const Clock::time_point deadline = Clock::now() + (wait ? kPatience : kPatience.zero());
  while (!bytes.empty()) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    pollfd target{fd_.get(), POLLOUT, 0};
    const int ready = ::poll(&target, 1, static_cast<int>(std::max(left, left.zero()).count()));
    ssize_t written = -1;
    if (ready == 0) errno = EAGAIN;
    if (ready > 0) {
      written = ::write(fd_.get(), bytes.data(), std::min<std::size_t>(bytes.size(), PIPE_BUF));
    }
    if (written > 0) {
      bytes.remove_prefix(static_cast<std::size_t>(written));
      torn_ = !bytes.empty();
      continue;
    }
    const int error = errno;
    if ((error == EAGAIN || error == EINTR) && Clock::now() < deadline) continue;
    stuck_ = true;
    throw spdlog::spdlog_ex("cannot write the log", error);
  }
  stuck_ = false;
}

void DescriptorSink::ReopenFor(spdlog::log_clock::time_point line_time) {
  const auto from = reopen_for_.load();
  if (from == kNever || line_time < from) return;
  reopen_for_ = kNever;
  try {
    fd_ = OpenFile(path_);
    torn_ = false;
  } catch (const std::runtime_error& error) {
    Write({"logging", spdlog::level::err,
           std::string(error.what()) + "; going on with the old file"});
  }
}

}  // namespace evrelay
