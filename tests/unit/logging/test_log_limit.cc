#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "logging/log_limit.h"
#include "support/catch.h"

using evrelay::LogLimit;
using namespace std::chrono_literals;

TEST_CASE("ten lines a second pass and the others are counted") {
  LogLimit limit;
  const LogLimit::Clock::time_point start{};
  int allowed = 0;
  for (int i = 0; i < 100; ++i) allowed += limit.Allow(start + i * 1ms);
  CHECK(allowed == 10);
  CHECK(limit.TakeSuppressed() == 90);
  CHECK(limit.TakeSuppressed() == 0);
}

TEST_CASE("no second of any kind sees more than ten lines") {
  LogLimit limit;
  const LogLimit::Clock::time_point start{};
  std::vector<LogLimit::Clock::time_point> passed;
  for (int i = 0; i < 5000; ++i) {
    const auto now = start + i * 1ms;
    if (limit.Allow(now)) passed.push_back(now);
  }
  CHECK(passed.size() == 50);
  for (std::size_t i = 10; i < passed.size(); ++i) CHECK(passed[i] - passed[i - 10] >= 1s);
}

TEST_CASE("a place may be given fewer lines") {
  LogLimit limit(1);
  const LogLimit::Clock::time_point start{};
  std::vector<std::chrono::milliseconds> passed;
  for (auto after = 0ms; after < 2500ms; after += 1ms) {
    if (limit.Allow(start + after)) passed.push_back(after);
  }
  CHECK(passed == std::vector{0ms, 1000ms, 2000ms});
  CHECK(limit.TakeSuppressed() == 2497);
}

TEST_CASE("threads share one limit") {
  LogLimit limit;
  const LogLimit::Clock::time_point now{};
  std::atomic<int> allowed = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 1000; ++j) allowed += limit.Allow(now);
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(allowed == 10);
  CHECK(limit.TakeSuppressed() == 3990);
}
