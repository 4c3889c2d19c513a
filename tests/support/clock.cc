#include "support/clock.h"

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

namespace evrelay {
namespace {

std::chrono::nanoseconds offset{0};

}  // namespace

void AdvanceClock(std::chrono::nanoseconds by) { offset += by; }

}  // namespace evrelay

// Stands in for the C library's function, for the shared libraries as well.
extern "C" int clock_gettime(clockid_t id, timespec* time) noexcept {
  const long result = syscall(SYS_clock_gettime, id, time);
  if (result != 0) return -1;
  if (id == CLOCK_MONOTONIC) {
    const auto now = std::chrono::seconds(time->tv_sec) + std::chrono::nanoseconds(time->tv_nsec) +
                     evrelay::offset;
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now);
    time->tv_sec = seconds.count();
    time->tv_nsec = (now - seconds).count();
  }
  return 0;
}
