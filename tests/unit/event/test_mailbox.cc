#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "event/before_wait.h"
#include "event/loop.h"
#include "event/mailbox.h"
#include "support/catch.h"
#include "support/turn_until.h"

namespace evrelay {
namespace {

constexpr std::size_t kAll = SIZE_MAX;
constexpr std::size_t kMiB = 1024 * 1024;

// Posts from a thread that has ended when this returns.
void PostAll(Mailbox<int>& mailbox, const std::vector<int>& items, std::size_t bytes_each = 1) {
  std::thread([&] {
    for (int item : items) mailbox.Post(std::move(item), bytes_each);
  }).join();
}

std::vector<int> Taken(Mailbox<int>& mailbox, std::size_t budget) {
  std::vector<int> taken;
  const bool any = mailbox.Take(budget, [&](int item) { taken.push_back(item); });
  CHECK(any == !taken.empty());
  return taken;
}

// Whether `thread`, once it has set it, comes to sleep: it waits in the call that follows.
bool Sleeps(const std::atomic<pid_t>& thread) {
  const auto deadline = Loop::Now() + kTestDeadline;
  while (Loop::Now() < deadline) {
    std::ifstream file("/proc/self/task/" + std::to_string(thread) + "/stat");
    std::string stat;
    if (std::getline(file, stat) && stat.at(stat.rfind(')') + 2) == 'S') return true;
    std::this_thread::yield();
  }
  return false;
}

// Turns that the loop takes until it has nothing to do; the last one always finds nothing.
int TurnsUntilIdle(Loop& loop) {
  struct Counter {
    void OnTurn() noexcept { ++turns; }
    int turns = 0;
  } counter;
  const BeforeWait turn(loop, BeforeWait::To<&Counter::OnTurn>(&counter));
  loop.RunUntilIdle();
  return counter.turns;
}

TEST_CASE("items are taken in the order in which they were posted") {
  Loop loop;
  Mailbox<int> mailbox(loop);
  CHECK(Taken(mailbox, kAll).empty());
  PostAll(mailbox, {1, 2, 3});
  PostAll(mailbox, {4});
  CHECK(Taken(mailbox, kAll) == std::vector{1, 2, 3, 4});
  CHECK(Taken(mailbox, kAll).empty());
}

TEST_CASE("an item crosses as what it is") {
  Loop loop;
  Mailbox<std::unique_ptr<int>> mailbox(loop);
  std::thread([&] { mailbox.Post(std::make_unique<int>(7), 1); }).join();
  std::unique_ptr<int> taken;
  mailbox.Take(kAll, [&](std::unique_ptr<int> item) { taken = std::move(item); });
  REQUIRE(taken != nullptr);
  CHECK(*taken == 7);
}

TEST_CASE("the item that crosses the budget is the last") {
  Loop loop;
  Mailbox<int> mailbox(loop);
  PostAll(mailbox, {1, 2, 3, 4, 5}, 10);
  CHECK(Taken(mailbox, 25) == std::vector{1, 2, 3});
  PostAll(mailbox, {6}, 10);
  CHECK(Taken(mailbox, 10) == std::vector{4});
  CHECK(Taken(mailbox, 11) == std::vector{5, 6});
}

TEST_CASE("the loop turns again for what was left") {
  Loop loop;
  Mailbox<int> mailbox(loop);
  PostAll(mailbox, {1, 2, 3, 4, 5});
  loop.RunUntilIdle();  // the wake-up of the first item has come and gone

  std::vector<int> taken;
  const auto take_one = [&] {
    mailbox.Take(1, [&](int item) { taken.push_back(item); });
    return taken.size() == 5;
  };
  SECTION("by the budget") {
    CHECK(TurnUntil(loop, take_one));
    CHECK(taken == std::vector{1, 2, 3, 4, 5});
  }
  SECTION("and for what was posted since") {
    CHECK(Taken(mailbox, 4) == std::vector{1, 2, 3, 4});
    PostAll(mailbox, {6, 7, 8, 9});
    loop.RunUntilIdle();
    CHECK(TurnUntil(loop, take_one));
    CHECK(taken == std::vector{5, 6, 7, 8, 9});
  }
}

TEST_CASE("only the first item wakes the loop") {
  Loop loop;
  Mailbox<int> mailbox(loop);
  CHECK(TurnsUntilIdle(loop) == 1);
  PostAll(mailbox, {1});
  CHECK(TurnsUntilIdle(loop) == 2);
  PostAll(mailbox, {2, 3});
  CHECK(TurnsUntilIdle(loop) == 1);

  CHECK(Taken(mailbox, kAll).size() == 3);
  CHECK(TurnsUntilIdle(loop) == 1);
  PostAll(mailbox, {4});
  CHECK(TurnsUntilIdle(loop) == 2);
}

TEST_CASE("a full mailbox makes its sender wait until items are taken") {
  constexpr int kItems = 40;
  constexpr int kFit = Mailbox<int>::kMaxBytes / kMiB;
  Loop loop;
  Mailbox<int> mailbox(loop);
  std::atomic<pid_t> thread = 0;
  std::atomic<int> posted = 0;
  std::thread sender([&] {
    thread = gettid();
    for (int i = 0; i < kItems; ++i) {
      mailbox.Post(int{i}, kMiB);
      ++posted;
    }
  });

  int taken = 0;
  for (; taken + kFit < kItems && posted <= taken + kFit; ++taken) {
    while (posted < taken + kFit) std::this_thread::yield();
    CHECK(Sleeps(thread));
    CHECK(posted == taken + kFit);
    CHECK(Taken(mailbox, 1) == std::vector{taken});
  }
  sender.join();
  CHECK(posted == kItems);
  CHECK(Taken(mailbox, kAll).size() == kFit);
}

TEST_CASE("an item larger than the mailbox is let in when there is any room") {
  Loop loop;
  Mailbox<int> mailbox(loop);
  PostAll(mailbox, {1}, Mailbox<int>::kMaxBytes - 1);
  PostAll(mailbox, {2}, 2 * Mailbox<int>::kMaxBytes);
  CHECK(Taken(mailbox, kAll) == std::vector{1, 2});
}

TEST_CASE("closing lets waiting senders go, with their items") {
  constexpr int kSenders = 4;
  Loop loop;
  Mailbox<std::unique_ptr<int>> mailbox(loop);
  const auto fill = [&] { mailbox.Post(std::make_unique<int>(0), mailbox.kMaxBytes); };
  std::thread(fill).join();

  std::array<std::atomic<pid_t>, kSenders> threads{};
  std::atomic<int> refused = 0;
  std::vector<std::thread> senders;
  for (std::atomic<pid_t>& thread : threads) {
    senders.emplace_back([&] {
      auto item = std::make_unique<int>(1);
      thread = gettid();
      if (!mailbox.Post(std::move(item), 1) && item != nullptr) ++refused;
    });
  }
  for (const std::atomic<pid_t>& thread : threads) CHECK(Sleeps(thread));
  mailbox.Close();
  for (std::thread& sender : senders) sender.join();
  CHECK(refused == kSenders);

  // What was posted before can still be taken, and no more be posted.
  int taken = 0;
  CHECK(mailbox.Take(kAll, [&](const std::unique_ptr<int>& item) { taken += *item == 0; }));
  CHECK(taken == 1);
  CHECK_FALSE(mailbox.Post(std::make_unique<int>(1), 1));
}

TEST_CASE("nothing is lost between many senders and a loop that waits") {
  constexpr int kSenders = 4;
  constexpr int kItems = 100'000;
  struct Numbered {
    int sender;
    int number;
  };
  Loop loop;
  Mailbox<Numbered> mailbox(loop);
  std::vector<std::thread> senders;
  for (int sender = 0; sender < kSenders; ++sender) {
    senders.emplace_back([&mailbox, sender] {
      for (int i = 0; i < kItems; ++i) mailbox.Post({sender, i}, 1000);
    });
  }
  std::array<int, kSenders> next{};
  int taken = 0;
  bool in_order = true;
  CHECK(TurnUntil(loop, [&] {
    mailbox.Take(256 * 1024, [&](const Numbered& item) {
      in_order = in_order && item.number == next[static_cast<std::size_t>(item.sender)]++;
      ++taken;
    });
    return taken == kSenders * kItems;
  }));
  mailbox.Close();
  for (std::thread& sender : senders) sender.join();
  CHECK(in_order);
}

}  // namespace
}  // namespace evrelay
