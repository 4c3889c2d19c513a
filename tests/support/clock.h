// The monotonic clock of a test program: runs as ever, and is put forward at will. So what happens
// after 30 s is tested at once. libev and std::chrono both see it.

#ifndef EVRELAY_TESTS_SUPPORT_CLOCK_H_
#define EVRELAY_TESTS_SUPPORT_CLOCK_H_

#include <chrono>

namespace evrelay {

// Not for programs with several threads.
void AdvanceClock(std::chrono::nanoseconds by);

}  // namespace evrelay

#endif  // EVRELAY_TESTS_SUPPORT_CLOCK_H_
