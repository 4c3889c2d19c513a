#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "support/catch.h"
#include "worker/inbox.h"

namespace evrelay {
namespace {

TEST_CASE("everything that was posted is taken at once, in order") {
  Inbox<std::unique_ptr<int>> inbox;
  for (int i = 0; i < 3; ++i) inbox.Post(std::make_unique<int>(i));
  std::vector<std::unique_ptr<int>> items;
  REQUIRE(inbox.Take(items));
  REQUIRE(items.size() == 3);
  for (int i = 0; i < 3; ++i) CHECK(*items[static_cast<std::size_t>(i)] == i);
}

TEST_CASE("a worker that waits gets all that is posted") {
  constexpr int kItems = 200'000;
  Inbox<int> inbox;
  int next = 0;
  bool in_order = true;
  std::thread worker([&] {
    std::vector<int> items;
    while (next < kItems && inbox.Take(items)) {
      for (const int item : items) in_order = in_order && item == next++;
      items.clear();
    }
  });
  for (int i = 0; i < kItems; ++i) inbox.Post(i);
  worker.join();
  CHECK(next == kItems);
  CHECK(in_order);
}

TEST_CASE("closing ends the taking, whatever is left") {
  Inbox<int> inbox;
  SECTION("of one that waits") {
    bool taken = true;
    std::thread worker([&] {
      std::vector<int> items;
      taken = inbox.Take(items);
    });
    inbox.Close();
    worker.join();
    CHECK_FALSE(taken);
  }
  SECTION("of one that comes later") {
    inbox.Post(1);
    inbox.Close();
    inbox.Post(2);
    std::vector<int> items;
    CHECK_FALSE(inbox.Take(items));
    CHECK(items.empty());
  }
}

}  // namespace
}  // namespace evrelay
