// What the load programs have in common: the clock, the line that lets a run begin, and how they
// end.

#ifndef EVRELAY_TESTS_BENCH_RUN_H_
#define EVRELAY_TESTS_BENCH_RUN_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <exception>
#include <stdexcept>

#include "sockets.h"

namespace bench {

// A server that sends nothing for so many seconds has lost what is still to come.
inline constexpr int kPatience = 20;

// Times are nanoseconds.
inline std::uint64_t Nanoseconds(clockid_t clock) {
  timespec now{};
  Checked(clock_gettime(clock, &now), "clock_gettime");
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(now.tv_nsec);
}

inline std::uint64_t Now() { return Nanoseconds(CLOCK_MONOTONIC); }

inline std::uint64_t FromSeconds(double seconds) {
  return static_cast<std::uint64_t>(seconds * 1e9);
}

inline double ToSeconds(std::uint64_t nanoseconds) {
  return static_cast<double>(nanoseconds) / 1e9;
}

inline timespec ToTimespec(std::uint64_t nanoseconds) {
  return {.tv_sec = static_cast<time_t>(nanoseconds / 1'000'000'000),
          .tv_nsec = static_cast<long>(nanoseconds % 1'000'000'000)};
}

// Waits for a line on standard input.
inline void AwaitLine() {
  int c = std::getchar();
  while (c != '\n') {
    if (c == EOF) throw std::runtime_error("standard input ended before the run");
    c = std::getchar();
  }
}

// Says "connected" and waits for a line on standard input.
inline void AwaitStart() {
  std::puts("connected");
  std::fflush(stdout);
  AwaitLine();
}

// Keeps the connections until standard input ends.
inline void AwaitEnd() {
  while (std::getchar() != EOF) {
  }
}

// Runs a program's `body` and returns its exit code: 2 when the command line is wrong, 1 when
// anything else is.
template <class Body>
int Guarded(const char* program, const Body& body) {
  try {
    body();
    return 0;
  } catch (const CLI::ParseError& error) {
    std::fprintf(stderr, "%s: %s\n", program, error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", program, error.what());
    return 1;
  }
}

}  // namespace bench

#endif  // EVRELAY_TESTS_BENCH_RUN_H_
