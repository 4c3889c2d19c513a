// ProgressLine: tells on a terminal how far a long command is, in one line that is rewritten in
// place. It shows up when the work has taken half a second and is wiped before anything else is
// printed there.
//
// It has no timer: who waits meanwhile, waits for as long as Update says. Thread safety: none.

#ifndef EVRELAY_CLIENT_PROGRESS_LINE_H_
#define EVRELAY_CLIENT_PROGRESS_LINE_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

namespace evrelay {

class ProgressLine {
 public:
  // `terminal`: where to; -1: nowhere.
  explicit ProgressLine(int terminal) : terminal_(terminal) {}
  ~ProgressLine() { Wipe(); }
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // `done` of `total` events so far. Returns when to call again even if nothing changes: in so many
  // milliseconds, -1 for never.
  int Update(std::uint64_t done, std::uint64_t total);

  void Wipe();

 private:
  using Clock = std::chrono::steady_clock;

  std::string Text(Clock::time_point now) const;

  const int terminal_;
  Clock::time_point started_;  // of the first event
  Clock::time_point next_;     // not to be rewritten before
  std::uint64_t done_ = 0;     // as last shown
  std::uint64_t total_ = 0;
  std::size_t width_ = 0;  // what stands there
};

}  // namespace evrelay

#endif  // EVRELAY_CLIENT_PROGRESS_LINE_H_
