#include "client/progress_line.h"

#include <algorithm>
#include <utility>

#include "client/streams.h"

namespace evrelay {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds kFirstAfter{500};
constexpr milliseconds kInterval{250};

constexpr int kNever = -1;

}  // namespace

int ProgressLine::Update(std::uint64_t done, std::uint64_t total) {
  if (terminal_ < 0 || (done == done_ && total == total_)) return kNever;
  const Clock::time_point now = Clock::now();
  if (next_ == Clock::time_point()) {
    started_ = now;
    next_ = now + kFirstAfter;
  }
  if (now < next_) {
    return static_cast<int>(std::chrono::ceil<milliseconds>(next_ - now).count());
  }
  next_ = now + kInterval;
  done_ = done;
  total_ = total;
  std::string text = Text(now);
  const std::size_t covered = std::exchange(width_, text.size());
  text.resize(std::max(covered, width_), ' ');
  WriteAll(terminal_, "\r" + text);
  return kNever;
}

void ProgressLine::Wipe() {
  if (width_ == 0) return;
  WriteAll(terminal_, "\r" + std::string(width_, ' ') + "\r");
  width_ = 0;
}

std::string ProgressLine::Text(Clock::time_point now) const {
  const std::chrono::duration<double> elapsed = now - started_;
  const auto rate = static_cast<std::uint64_t>(static_cast<double>(done_) / elapsed.count());
  return std::to_string(done_) + (done_ == total_ ? "" : " of " + std::to_string(total_)) +
         (total_ == 1 ? " event, " : " events, ") + std::to_string(rate) + "/s";
}

}  // namespace evrelay
