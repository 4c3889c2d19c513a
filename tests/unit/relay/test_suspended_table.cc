// The table of suspended requests, at times that the tests choose.

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "relay/suspended_table.h"
#include "support/catch.h"

namespace evrelay {
namespace {

using namespace std::chrono_literals;
using Time = SuspendedTable::Clock::time_point;

// Only its address matters: the table calls nobody.
struct Nobody final : Requester {
  void OnResumed(SuspendedId, std::string_view) noexcept override {}
  void OnExpired(SuspendedId) noexcept override {}
};

constexpr Time kStart{1000s};
constexpr Time kDeadline = kStart + 30s;

// All that have expired by `now`, in the order in which they are told.
std::vector<SuspendedId> ExpiredBy(SuspendedTable& table, Time now) {
  std::vector<SuspendedId> all;
  while (const auto expired = table.Expire(now)) all.push_back(expired->request);
  return all;
}

using Ids = std::vector<SuspendedId>;

class TableTest {
 protected:
  SuspendedId Suspend(Time deadline = kDeadline) { return table.Suspend(requester, deadline); }

  Nobody requester;
  SuspendedTable table;
};

}  // namespace

TEST_CASE_METHOD(TableTest, "suspended: one claim succeeds, then one fulfilment") {
  Nobody other;
  const SuspendedId request = Suspend();
  const SuspendedId second = table.Suspend(other, kDeadline);
  CHECK(request.index != second.index);
  CHECK(table.size() == 2);
  CHECK(table.Claim(request));
  CHECK_FALSE(table.Claim(request));
  CHECK(table.Claim(second));
  CHECK(table.size() == 2);
  CHECK(table.Fulfil(second) == &other);
  CHECK(table.Fulfil(request) == &requester);
  CHECK(table.size() == 0);

  // It has ended, for everybody.
  CHECK(table.Fulfil(request) == nullptr);
  CHECK_FALSE(table.Claim(request));
  table.GiveBack(request);
  CHECK_FALSE(table.Claim(request));
  table.End(request);
  CHECK(table.size() == 0);
  CHECK_FALSE(table.NextDeadline());
  CHECK_FALSE(table.Expire(kDeadline + 1h));
}

TEST_CASE_METHOD(TableTest, "suspended: what nobody has claimed cannot be fulfilled") {
  const SuspendedId request = Suspend();
  CHECK(table.Fulfil(request) == nullptr);
  CHECK(table.size() == 1);
  CHECK(table.Claim(request));
  CHECK(table.Fulfil(request) == &requester);
}

TEST_CASE_METHOD(TableTest, "suspended: forged numbers touch nothing") {
  CHECK_FALSE(table.Claim({0, 0}));
  CHECK_FALSE(table.Claim({0, 1}));
  const SuspendedId ended = Suspend();
  const SuspendedId request = Suspend();
  table.End(ended);
  const bool claimed = GENERATE(false, true);
  if (claimed) REQUIRE(table.Claim(request));
  for (const SuspendedId forged : Ids{{request.index, request.label + 1},
                                      {request.index, request.label - 1},
                                      {request.index, ~request.label},
                                      {request.index, 0},
                                      {request.index + 1, request.label},
                                      {request.index + 2, request.label},
                                      {UINT32_MAX, request.label},
                                      {UINT32_MAX, UINT32_MAX},
                                      {request.label, request.index},
                                      {ended.index, request.label},
                                      {ended.index, ended.label},
                                      {ended.index, 0}}) {
    CAPTURE(forged.index, forged.label);
    CHECK_FALSE(table.Claim(forged));
    table.GiveBack(forged);
    CHECK(table.Fulfil(forged) == nullptr);
    table.End(forged);
    CHECK(table.size() == 1);
  }
  CHECK(table.Claim(request) == !claimed);
  CHECK(table.NextDeadline() == kDeadline);
  CHECK(table.Fulfil(request) == &requester);
}

TEST_CASE_METHOD(TableTest, "suspended: claims that are in vain are counted") {
  const SuspendedId request = Suspend();
  CHECK(table.Claim(request));
  table.GiveBack(request);
  CHECK(table.Claim(request));
  CHECK(table.refused() == 0);
  table.Claim(request);
  table.Claim({request.index, ~request.label});
  table.Claim({7, 7});
  CHECK(table.refused() == 3);
  table.Fulfil(request);
  table.Claim(request);
  CHECK(table.refused() == 4);
}

TEST_CASE_METHOD(TableTest, "suspended: a claim that is given back can be made again") {
  const SuspendedId request = Suspend();
  for (int i = 0; i < 3; ++i) {
    CHECK(table.Claim(request));
    table.GiveBack(request);
    CHECK(table.Fulfil(request) == nullptr);
  }
  table.GiveBack(request);  // of what is not claimed: nothing
  CHECK(table.NextDeadline() == kDeadline);
  CHECK(table.size() == 1);
  CHECK(table.Claim(request));
  CHECK_FALSE(table.Claim(request));
  CHECK(table.Fulfil(request) == &requester);
}

TEST_CASE_METHOD(TableTest, "suspended: requests expire at their deadlines, the earliest first") {
  Nobody other;
  const SuspendedId late = table.Suspend(other, kStart + 3s);
  const SuspendedId early = Suspend(kStart + 1s);
  const SuspendedId middle = Suspend(kStart + 2s);
  const SuspendedId twin = Suspend(kStart + 2s);
  CHECK(table.NextDeadline() == kStart + 1s);
  CHECK_FALSE(table.Expire(kStart));
  CHECK_FALSE(table.Expire(kStart + 1s - 1ns));
  CHECK(table.size() == 4);
  CHECK(ExpiredBy(table, kStart + 1s) == Ids{early});
  CHECK(table.NextDeadline() == kStart + 2s);
  CHECK_FALSE(table.Claim(early));

  const Ids both = ExpiredBy(table, kStart + 3s - 1ns);
  CHECK(both.size() == 2);
  CHECK(((both == Ids{middle, twin}) || (both == Ids{twin, middle})));
  const auto last = table.Expire(kStart + 1h);
  REQUIRE(last);
  CHECK(last->request == late);
  CHECK(last->requester == &other);
  CHECK(table.size() == 0);
  CHECK_FALSE(table.NextDeadline());
  CHECK_FALSE(table.Expire(kStart + 1h));
}

TEST_CASE_METHOD(TableTest, "suspended: one that ends early is not told of again") {
  const SuspendedId ended = Suspend(kStart + 1s);
  const SuspendedId fulfilled = Suspend(kStart + 2s);
  const SuspendedId request = Suspend(kStart + 3s);
  table.End(ended);
  CHECK(table.Claim(fulfilled));
  CHECK(table.NextDeadline() == kStart + 2s);
  CHECK(table.Fulfil(fulfilled) == &requester);
  CHECK(table.NextDeadline() == kStart + 3s);
  CHECK(ExpiredBy(table, kStart + 1h) == Ids{request});
}

TEST_CASE_METHOD(TableTest, "suspended: a claim outlives the deadline by a second") {
  CHECK(SuspendedTable::kClaimGrace == 1s);
  const SuspendedId request = Suspend();
  CHECK(table.Claim(request));
  CHECK(table.NextDeadline() == kDeadline);
  CHECK_FALSE(table.Expire(kDeadline));
  CHECK(table.NextDeadline() == kDeadline + 1s);
  CHECK_FALSE(table.Claim(request));
  CHECK_FALSE(table.Expire(kDeadline + 1s - 1ns));

  SECTION("within it, it is good") {
    CHECK(table.Fulfil(request) == &requester);
    CHECK_FALSE(table.NextDeadline());
    CHECK_FALSE(table.Expire(kDeadline + 1h));
  }
  SECTION("then it has expired, and comes too late") {
    CHECK(ExpiredBy(table, kDeadline + 1s) == Ids{request});
    CHECK(table.Fulfil(request) == nullptr);
    table.GiveBack(request);
    CHECK_FALSE(table.Claim(request));
    CHECK(table.size() == 0);

    // Nor does it touch the next one in its place.
    const SuspendedId next = Suspend(kDeadline + 1h);
    REQUIRE(next.index == request.index);
    CHECK(table.Claim(next));
    CHECK(table.Fulfil(request) == nullptr);
    table.GiveBack(request);
    CHECK_FALSE(table.Claim(next));
    CHECK_FALSE(table.Expire(kDeadline + 30min));
    CHECK(table.Fulfil(next) == &requester);
  }
  SECTION("given back, its time is over") {
    const SuspendedId later = Suspend(kDeadline + 500ms);
    table.GiveBack(request);
    CHECK(table.NextDeadline() == kDeadline);
    CHECK(ExpiredBy(table, kDeadline + 1ms) == Ids{request});
    CHECK(ExpiredBy(table, kDeadline + 500ms) == Ids{later});
  }
  SECTION("given back and claimed again, it has no second more") {
    table.GiveBack(request);
    CHECK(table.Claim(request));
    CHECK_FALSE(table.Expire(kDeadline + 900ms));
    CHECK(table.NextDeadline() == kDeadline + 1s);
    CHECK(ExpiredBy(table, kDeadline + 1s) == Ids{request});
  }
  SECTION("ended, it leaves nothing behind") {
    table.End(request);
    CHECK_FALSE(table.NextDeadline());
    const SuspendedId next = Suspend(kDeadline + 1h);
    REQUIRE(next.index == request.index);
    CHECK(table.Claim(next));
    CHECK_FALSE(table.Expire(kDeadline + 1h));  // a grace of its own
    CHECK(table.NextDeadline() == kDeadline + 1h + 1s);
  }
}

TEST_CASE_METHOD(TableTest, "suspended: a claim that is looked at late has had its second") {
  const SuspendedId claimed = Suspend();
  const SuspendedId waits = Suspend(kDeadline + 10s);
  CHECK(table.Claim(claimed));
  CHECK(ExpiredBy(table, kDeadline + 1min) == Ids{claimed, waits});
}

TEST_CASE_METHOD(TableTest, "suspended: a claim given back in time changes no deadline") {
  const SuspendedId request = Suspend();
  CHECK(table.Claim(request));
  CHECK_FALSE(table.Expire(kDeadline - 1ns));
  table.GiveBack(request);
  CHECK(table.NextDeadline() == kDeadline);
  CHECK_FALSE(table.Expire(kDeadline - 1ns));
  CHECK(ExpiredBy(table, kDeadline) == Ids{request});
}

TEST_CASE_METHOD(TableTest, "suspended: slots are used again, so indices stay small") {
  std::mt19937 random(1);
  Ids waiting;
  std::array<std::uint32_t, 5> last_label{};
  for (int i = 0; i < 5000; ++i) {
    if (waiting.size() == 5 || (!waiting.empty() && random() % 2 == 0)) {
      const auto at = waiting.begin() + static_cast<std::ptrdiff_t>(random() % waiting.size());
      if (random() % 2 == 0) {
        table.End(*at);
      } else {
        CHECK(table.Claim(*at));
        CHECK(table.Fulfil(*at) == &requester);
      }
      waiting.erase(at);
    } else {
      const SuspendedId request = Suspend(kStart + std::chrono::milliseconds(random() % 100));
      REQUIRE(request.index < 5);
      for (const SuspendedId other : waiting) CHECK(other.index != request.index);
      CHECK(request.label != 0);
      CHECK(request.label != last_label[request.index]);
      last_label[request.index] = request.label;
      waiting.push_back(request);
    }
    REQUIRE(table.size() == waiting.size());
  }
}

TEST_CASE_METHOD(TableTest, "suspended: labels use all of their 32 bits, and cannot be foretold") {
  constexpr int kCount = 20'000;
  std::uint32_t ones = 0;
  std::uint32_t zeros = 0;
  std::set<std::uint32_t> labels;
  std::set<std::uint32_t> steps;
  std::uint32_t last = 0;
  for (int i = 0; i < kCount; ++i) {
    const SuspendedId request = Suspend();
    REQUIRE(request.label != 0);
    REQUIRE(request.label != last);
    ones |= request.label;
    zeros |= ~request.label;
    labels.insert(request.label);
    steps.insert(request.label - last);
    last = request.label;
    if (i % 2 == 0) table.End(request);
  }
  CHECK(ones == UINT32_MAX);
  CHECK(zeros == UINT32_MAX);
  // Of so many random numbers no two are alike, but for one pair in 20 times.
  CHECK(labels.size() >= kCount - 4);
  CHECK(steps.size() >= kCount - 4);

  // Another table, at another time, has others.
  SuspendedTable other;
  CHECK(labels.count(other.Suspend(requester, kDeadline).label) == 0);
}

TEST_CASE_METHOD(TableTest, "suspended: of many threads one has the claim") {
  constexpr std::size_t kThreads = 4;
  constexpr std::size_t kRequests = 2000;
  Ids requests;
  for (std::size_t i = 0; i < kRequests; ++i) requests.push_back(Suspend());
  std::array<std::vector<std::size_t>, kThreads> won;
  std::atomic<std::size_t> ready = 0;
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      ++ready;
      while (ready < kThreads) std::this_thread::yield();
      for (std::size_t i = 0; i < kRequests; ++i) {
        if (table.Claim(requests[i])) won[t].push_back(i);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::vector<int> wins(kRequests);
  for (const auto& mine : won) {
    for (const std::size_t i : mine) ++wins[i];
  }
  CHECK(wins == std::vector<int>(kRequests, 1));
}

// Threads claim, and give back or hand to the loop; the loop suspends, fulfils, ends and lets time
// pass, until all of it has happened often. Each request ends once, and no two threads ever hold
// one.
TEST_CASE("suspended: whatever threads do, each request ends once") {
  constexpr std::size_t kThreads = 3;
  constexpr std::size_t kWaiting = 32;
  constexpr std::uint64_t kOften = 500;
  struct Request {
    SuspendedId id;
    std::atomic<int> holders = 0;
    int ends = 0;  // the loop's
  };
  using Pointer = std::shared_ptr<Request>;

  Nobody requester;
  SuspendedTable table;
  std::mutex mutex;
  std::vector<Pointer> asked(kWaiting, std::make_shared<Request>());  // guarded: what threads try
  std::deque<Pointer> verdicts;                                       // guarded: claimed
  std::atomic<bool> stop = false;
  std::atomic<std::uint64_t> held_twice = 0;
  std::atomic<std::uint64_t> given_back = 0;

  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(static_cast<unsigned>(t));
      while (!stop) {
        Pointer request;
        {
          const std::lock_guard lock(mutex);
          request = asked[random() % kWaiting];
        }
        if (!table.Claim(request->id)) continue;
        if (request->holders.fetch_add(1) != 0) ++held_twice;
        if (random() % 2 == 0) {
          request->holders.fetch_sub(1);
          table.GiveBack(request->id);
          ++given_back;
        } else {
          const std::lock_guard lock(mutex);
          verdicts.push_back(std::move(request));
        }
      }
    });
  }

  std::mt19937 random(99);
  Time now = kStart;
  std::map<std::uint32_t, Pointer> waiting;  // by index
  bool once = true;
  std::uint64_t suspended = 0;
  std::uint64_t resumed = 0;
  std::uint64_t expired = 0;
  std::uint64_t ended = 0;
  std::uint64_t late = 0;
  const auto end = [&](SuspendedId id) {
    const auto at = waiting.find(id.index);
    once = once && at != waiting.end() && at->second->id == id && ++at->second->ends == 1;
    if (at != waiting.end()) waiting.erase(at);
  };
  const auto deadline = SuspendedTable::Clock::now() + 60s;
  bool enough = false;
  while (!enough || !waiting.empty()) {
    enough = enough || (resumed >= kOften && expired >= kOften && given_back >= kOften) ||
             SuspendedTable::Clock::now() >= deadline;
    if (!enough && waiting.size() < kWaiting) {
      const auto request = std::make_shared<Request>();
      request->id = table.Suspend(requester, now + std::chrono::milliseconds(random() % 300));
      once = once && waiting.emplace(request->id.index, request).second;
      ++suspended;
      const std::lock_guard lock(mutex);
      asked[random() % kWaiting] = request;
    }
    Pointer verdict;
    {
      const std::lock_guard lock(mutex);
      if (!verdicts.empty()) {
        verdict = verdicts.front();
        verdicts.pop_front();
      }
    }
    if (verdict) {
      verdict->holders.fetch_sub(1);
      if (table.Fulfil(verdict->id) != nullptr) {
        ++resumed;
        end(verdict->id);
      } else {
        ++late;
        once = once && verdict->ends == 1;
      }
    }
    if (random() % 50 == 0 && !waiting.empty()) {
      const SuspendedId id = waiting.begin()->second->id;
      table.End(id);
      ++ended;
      end(id);
    }
    now += random() % 100 == 0 ? 1100ms : 1ms;
    for (const SuspendedId id : ExpiredBy(table, now)) {
      ++expired;
      end(id);
    }
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();

  CAPTURE(suspended, resumed, expired, ended, late, given_back.load());
  CHECK(once);
  CHECK(held_twice == 0);
  CHECK(suspended == resumed + expired + ended);
  CHECK(resumed >= kOften);
  CHECK(expired >= kOften);
  CHECK(given_back >= kOften);
  CHECK(table.size() == 0);
  CHECK_FALSE(table.NextDeadline());
}

}  // namespace evrelay
