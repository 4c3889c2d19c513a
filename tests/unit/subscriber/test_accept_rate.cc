#include <chrono>
#include <cstdint>

#include "subscriber/accept_rate.h"
#include "support/catch.h"

namespace evrelay {
namespace {

using namespace std::chrono_literals;

// Takes as long as one may come in; how many did.
std::uint32_t TakeAll(AcceptRate& accept, std::uint32_t rate, AcceptRate::TimePoint now) {
  std::uint32_t taken = 0;
  while (accept.Wait(rate, now) <= 0ns) {
    accept.Take(rate, now);
    ++taken;
  }
  return taken;
}

const AcceptRate::TimePoint kStart{1'000'000s};

}  // namespace

TEST_CASE("accept rate: after a pause as many as in a second, no more") {
  for (const std::uint32_t rate : {1U, 2U, 10U, 1000U, 1'000'000U}) {
    INFO(rate);
    AcceptRate accept;
    CHECK(TakeAll(accept, rate, kStart) == rate);
    CHECK(TakeAll(accept, rate, kStart) == 0);
    CHECK(TakeAll(accept, rate, kStart + 1s) == rate);
    CHECK(TakeAll(accept, rate, kStart + 1h) == rate);
  }
}

TEST_CASE("accept rate: then one whenever its part of a second has gone by") {
  AcceptRate accept;
  TakeAll(accept, 10, kStart);
  CHECK(accept.Wait(10, kStart) == 100ms);
  CHECK(accept.Wait(10, kStart + 40ms) == 60ms);
  CHECK(TakeAll(accept, 10, kStart + 99ms) == 0);
  CHECK(TakeAll(accept, 10, kStart + 100ms) == 1);
  CHECK(TakeAll(accept, 10, kStart + 199ms) == 0);
  // What is not used is kept.
  CHECK(TakeAll(accept, 10, kStart + 450ms) == 3);
  CHECK(TakeAll(accept, 10, kStart + 500ms) == 1);
}

TEST_CASE("accept rate: whatever the steps, so many a second") {
  for (const std::uint32_t rate : {3U, 7U, 100U, 12'345U}) {
    INFO(rate);
    AcceptRate accept;
    std::uint32_t taken = 0;
    for (auto at = 0ms; at <= 60s; at += 13ms) taken += TakeAll(accept, rate, kStart + at);
    CHECK(taken >= 61 * rate - rate / 10 - 1);
    CHECK(taken <= 61 * rate + 1);
  }
}

TEST_CASE("accept rate: another rate holds at once") {
  AcceptRate accept;
  TakeAll(accept, 1, kStart);
  CHECK(accept.Wait(1, kStart + 1ms) == 999ms);
  CHECK(accept.Wait(1000, kStart + 1ms) == 0ms);
  CHECK(TakeAll(accept, 1000, kStart + 1ms) == 1);
}

}  // namespace evrelay
