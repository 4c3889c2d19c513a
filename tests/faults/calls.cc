// For LD_PRELOAD: system calls that fail when the test says so (board.h), and a wall clock that the
// test can set.
//
// libc's own headers are left out: they declare some of these as functions that never throw, or
// under other names. Arguments that libc takes by `...` are integers or pointers, and pass
// likewise.

#include <dlfcn.h>
#include <pthread.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <ctime>

#include "board.h"

namespace {

using ssize_t = std::ptrdiff_t;

template <class Function>
Function Next(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

bool FailsWithErrno(faults::Entry* entry) {
  if (!faults::Fails(entry)) return false;
  errno = static_cast<int>(entry->value);
  return true;
}

}  // namespace

// Defines `name`, which fails under the name `kind` by returning `failure`.
#define FAILING(kind, result, failure, name, parameters, arguments) \
  extern "C" result name parameters {                               \
    static const auto next = Next<result(*) parameters>(#name);     \
    static faults::Entry* const entry = faults::Find(#kind);        \
    return FailsWithErrno(entry) ? failure : next arguments;        \
  }

FAILING(accept4, int, -1, accept4, (int fd, void* to, unsigned* size, int flags),
        (fd, to, size, flags))
FAILING(bind, int, -1, bind, (int fd, const void* to, unsigned size), (fd, to, size))
FAILING(chmod, int, -1, chmod, (const char* path, unsigned mode), (path, mode))
FAILING(connect, int, -1, connect, (int fd, const void* to, unsigned size), (fd, to, size))
FAILING(epoll_create, int, -1, epoll_create1, (int flags), (flags))
FAILING(epoll_ctl, int, -1, epoll_ctl, (int on, int what, int fd, void* event),
        (on, what, fd, event))
FAILING(epoll_wait, int, -1, epoll_wait, (int on, void* events, int most, int timeout),
        (on, events, most, timeout))
FAILING(eventfd, int, -1, eventfd, (unsigned initial, int flags), (initial, flags))
FAILING(fcntl, int, -1, fcntl64, (int fd, int what, long operand), (fd, what, operand))
FAILING(flock, int, -1, flock, (int fd, int what), (fd, what))
FAILING(fopen, std::FILE*, nullptr, fopen64, (const char* path, const char* mode), (path, mode))
FAILING(getsockname, int, -1, getsockname, (int fd, void* to, unsigned* size), (fd, to, size))
FAILING(getsockopt, int, -1, getsockopt, (int fd, int level, int name, void* to, unsigned* size),
        (fd, level, name, to, size))
FAILING(ioctl, int, -1, ioctl, (int fd, unsigned long what, void* operand), (fd, what, operand))
FAILING(listen, int, -1, listen, (int fd, int backlog), (fd, backlog))
FAILING(mkdtemp, char*, nullptr, mkdtemp, (char* path), (path))
FAILING(open, int, -1, open64, (const char* path, int flags, unsigned mode), (path, flags, mode))
FAILING(poll, int, -1, poll, (void* fds, unsigned long count, int timeout), (fds, count, timeout))
FAILING(recv, ssize_t, -1, recv, (int fd, void* to, std::size_t size, int flags),
        (fd, to, size, flags))
FAILING(rename, int, -1, renameat2,
        (int from_at, const char* from, int to_at, const char* to, unsigned flags),
        (from_at, from, to_at, to, flags))
FAILING(send, ssize_t, -1, send, (int fd, const void* from, std::size_t size, int flags),
        (fd, from, size, flags))
FAILING(sendmsg, ssize_t, -1, sendmsg, (int fd, const void* message, int flags),
        (fd, message, flags))
FAILING(setsockopt, int, -1, setsockopt,
        (int fd, int level, int name, const void* from, unsigned size),
        (fd, level, name, from, size))
FAILING(shutdown, int, -1, shutdown, (int fd, int how), (fd, how))
FAILING(socket, int, -1, socket, (int family, int type, int protocol), (family, type, protocol))
// The loop wakes itself by an eventfd, which is neither a file, a pipe nor a socket: writing to it
// cannot fail as writing to those can.
extern "C" ssize_t write(int fd, const void* from, std::size_t size) {
  static const auto next = Next<ssize_t (*)(int, const void*, std::size_t)>("write");
  static faults::Entry* const entry = faults::Find("write");
  struct stat status;
  const bool may_fail = fstat(fd, &status) == 0 && (status.st_mode & S_IFMT) != 0;
  return may_fail && FailsWithErrno(entry) ? -1 : next(fd, from, size);
}

// It returns the error and leaves errno alone.
extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                              void* (*run)(void*), void* argument) {
  static const auto next = Next<decltype(&pthread_create)>("pthread_create");
  static faults::Entry* const entry = faults::Find("pthread_create");
  if (faults::Fails(entry)) return static_cast<int>(entry->value);
  return next(thread, attributes, run, argument);
}

// --- the wall clock ---

namespace {

timespec WallClock() {
  static const auto next = Next<int (*)(int, timespec*)>("clock_gettime");
  static faults::Entry* const board = faults::Find("board");
  constexpr std::int64_t kSecond = 1'000'000'000;
  timespec now{};
  next(CLOCK_REALTIME, &now);
  if (board == nullptr) return now;
  const std::int64_t time = now.tv_sec * kSecond + now.tv_nsec + board->value;
  return {time / kSecond, time % kSecond};
}

}  // namespace

extern "C" int clock_gettime(int clock, timespec* now) noexcept {
  static const auto next = Next<int (*)(int, timespec*)>("clock_gettime");
  if (clock != CLOCK_REALTIME) return next(clock, now);
  *now = WallClock();
  return 0;
}

extern "C" std::time_t time(std::time_t* now) noexcept {
  const std::time_t seconds = WallClock().tv_sec;
  if (now != nullptr) *now = seconds;
  return seconds;
}

extern "C" int gettimeofday(long* now, void*) {
  const timespec time = WallClock();
  now[0] = time.tv_sec;
  now[1] = time.tv_nsec / 1000;
  return 0;
}
