#include "support/clock.h"

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

namespace evrelay {
namespace {

std::chrono::nanoseconds offset{0};
std::chrono::nanoseconds stopped_at{0};  // 0: it runs

std::chrono::nanoseconds Monotonic() {
  timespec time;
  syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

}  // namespace

void AdvanceClock(std::chrono::nanoseconds by) { offset += by; }

StoppedClock::StoppedClock() { stopped_at = Monotonic(); }

StoppedClock::~StoppedClock() {
  offset -= Monotonic() - stopped_at;  // it never steps
  stopped_at = {};
}

}  // namespace evrelay

// Stands in for the C library's function, for the shared libraries as well.
extern "C" int clock_gettime(clockid_t id, timespec* time) noexcept {
  if (id != CLOCK_MONOTONIC) return syscall(SYS_clock_gettime, id, time) == 0 ? 0 : -1;
  const auto real = evrelay::stopped_at.count() != 0 ? evrelay::stopped_at : evrelay::Monotonic();
  const auto now = real + evrelay::offset;
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now);
  time->tv_sec = seconds.count();
  time->tv_nsec = (now - seconds).count();
  return 0;
}
