// The monotonic clock of a test program: runs as ever, and is put forward at will. So what happens
// after 30 s is tested at once. libev and std::chrono both see it.

#ifndef EVRELAY_TESTS_SUPPORT_CLOCK_H_
#define EVRELAY_TESTS_SUPPORT_CLOCK_H_

#include <chrono>

namespace evrelay {

// Not for programs with several threads.
void AdvanceClock(std::chrono::nanoseconds by);

// As long as it lives, the clock stands still but for AdvanceClock.
class StoppedClock {
 public:
  StoppedClock();
  StoppedClock(const StoppedClock&) = delete;
  StoppedClock& operator=(const StoppedClock&) = delete;
  ~StoppedClock();
};

}  // namespace evrelay

#endif  // EVRELAY_TESTS_SUPPORT_CLOCK_H_
