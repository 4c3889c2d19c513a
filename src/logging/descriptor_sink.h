// The log's target when it is stderr or a file: writes whole lines to a descriptor.
//
// A line waits 100 ms at most for a full pipe. After that the target counts as stuck, and lines do
// not wait at all until one gets through. A line that cannot be written is given up with an
// exception; its caller counts it.
//
// For one thread at a time, except where said otherwise.

#ifndef EVRELAY_LOGGING_DESCRIPTOR_SINK_H_
#define EVRELAY_LOGGING_DESCRIPTOR_SINK_H_

#include <spdlog/common.h>
#include <spdlog/formatter.h>
#include <spdlog/sinks/sink.h>

#include <atomic>
#include <memory>
#include <string>
#include <string_view>

#include "util/unique_fd.h"

namespace evrelay {

class DescriptorSink final : public spdlog::sinks::sink {
 public:
  // Writes to a duplicate of `fd`. The flags of `fd`, which other processes may share, stay as they
  // are.
  explicit DescriptorSink(int fd);

  // Appends to the file at `path`, which is created when it is missing. Throws std::runtime_error.
  explicit DescriptorSink(std::string path);

  // Throws spdlog::spdlog_ex when the line could not be written.
  void log(const spdlog::details::log_msg& message) override;
  void flush() override {}  // nothing is held back

  void set_pattern(const std::string& pattern) override;
  void set_formatter(std::unique_ptr<spdlog::formatter> formatter) override;

  bool is_file() const { return !path_.empty(); }

  // Files only: opens the file by its path once more, for the first line that is made after this
  // call. Any thread.
  void Reopen() { reopen_for_ = spdlog::log_clock::now(); }

  // No line waits from now on. Any thread.
  void Hurry() { hurry_ = true; }

 private:
  static constexpr auto kNever = spdlog::log_clock::time_point::max();

  void Write(const spdlog::details::log_msg& message);
  void WriteAll(std::string_view bytes);
  void ReopenFor(spdlog::log_clock::time_point line_time);

  std::string path_;  // empty: not a file
  UniqueFd fd_;
  std::unique_ptr<spdlog::formatter> formatter_;
  bool stuck_ = false;
  bool torn_ = false;  // the last line was written in part
  // Lines made from this time on belong to the file reopened.
  std::atomic<spdlog::log_clock::time_point> reopen_for_ = kNever;
  std::atomic<bool> hurry_ = false;
};

}  // namespace evrelay

#endif  // EVRELAY_LOGGING_DESCRIPTOR_SINK_H_
