#include <memory>
#include <string>
#include <vector>

#include "support/catch.h"
#include "util/intrusive_list.h"

namespace evrelay {
namespace {

struct RedTag;
struct BlueTag;

struct Item : ListHook<RedTag>, ListHook<BlueTag> {
  explicit Item(int n) : number(n) {}
  int number;
};

using RedList = IntrusiveList<Item, RedTag>;
using BlueList = IntrusiveList<Item, BlueTag>;

template <class List>
std::vector<int> Numbers(List& list) {
  std::vector<int> numbers;
  for (Item& item : list) numbers.push_back(item.number);
  return numbers;
}

bool InRed(const Item& item) { return static_cast<const ListHook<RedTag>&>(item).linked(); }

using Expected = std::vector<int>;

}  // namespace

TEST_CASE("intrusive list: members stand in the order in which they were added") {
  Item one{1}, two{2}, three{3};
  RedList list;
  CHECK(list.empty());
  CHECK(Numbers(list) == Expected{});

  list.PushBack(one);
  list.PushBack(two);
  list.PushBack(three);
  CHECK_FALSE(list.empty());
  CHECK(Numbers(list) == Expected{1, 2, 3});
  CHECK(list.front().number == 1);
  CHECK(list.begin()->number == 1);
}

TEST_CASE("intrusive list: PopFront takes the first member out") {
  Item one{1}, two{2};
  RedList list;
  list.PushBack(one);
  list.PushBack(two);
  CHECK(&list.PopFront() == &one);
  CHECK_FALSE(InRed(one));
  CHECK(Numbers(list) == Expected{2});
  CHECK(&list.PopFront() == &two);
  CHECK(list.empty());
}

TEST_CASE("intrusive list: a member unlinks itself, once or again") {
  Item one{1}, two{2}, three{3};
  RedList list;
  for (Item* item : {&one, &two, &three}) list.PushBack(*item);
  ListHook<RedTag>& middle = two;
  middle.Unlink();
  CHECK_FALSE(InRed(two));
  CHECK(Numbers(list) == Expected{1, 3});
  middle.Unlink();
  CHECK(Numbers(list) == Expected{1, 3});
}

TEST_CASE("intrusive list: PushBack moves a member from wherever it was linked") {
  Item one{1}, two{2};
  RedList from;
  RedList to;
  from.PushBack(one);
  from.PushBack(two);
  to.PushBack(one);
  CHECK(Numbers(from) == Expected{2});
  CHECK(Numbers(to) == Expected{1});

  SECTION("within its own list it becomes the last") {
    to.PushBack(two);
    to.PushBack(one);
    CHECK(Numbers(to) == Expected{2, 1});
    CHECK(from.empty());
  }
  SECTION("as the only one it stays") {
    to.PushBack(one);
    CHECK(Numbers(to) == Expected{1});
  }
}

TEST_CASE("intrusive list: a destroyed member is gone from its list") {
  Item one{1}, three{3};
  RedList list;
  list.PushBack(one);
  {
    Item two{2};
    list.PushBack(two);
    list.PushBack(three);
  }
  CHECK(Numbers(list) == Expected{1, 3});
}

TEST_CASE("intrusive list: a destroyed list leaves its members unlinked") {
  Item one{1}, two{2};
  {
    RedList list;
    list.PushBack(one);
    list.PushBack(two);
  }
  CHECK_FALSE(InRed(one));
  CHECK_FALSE(InRed(two));
}

TEST_CASE("intrusive list: the places of one member do not touch each other") {
  Item one{1}, two{2};
  RedList red;
  BlueList blue;
  red.PushBack(one);
  red.PushBack(two);
  blue.PushBack(two);
  blue.PushBack(one);
  red.PopFront();
  CHECK(Numbers(red) == Expected{2});
  CHECK(Numbers(blue) == Expected{2, 1});
}

TEST_CASE("intrusive list: TakeAll appends in order and empties the other") {
  Item one{1}, two{2}, three{3}, four{4};
  RedList to;
  RedList from;

  SECTION("from an empty list nothing comes") {
    to.PushBack(one);
    to.TakeAll(from);
    CHECK(Numbers(to) == Expected{1});
    CHECK(from.empty());
  }
  SECTION("into an empty list") {
    from.PushBack(one);
    from.PushBack(two);
    to.TakeAll(from);
    CHECK(Numbers(to) == Expected{1, 2});
    CHECK(from.empty());
  }
  SECTION("into a list with members; both go on working") {
    to.PushBack(one);
    to.PushBack(two);
    from.PushBack(three);
    to.TakeAll(from);
    to.PushBack(four);
    CHECK(Numbers(to) == Expected{1, 2, 3, 4});
    CHECK(from.empty());
    from.PushBack(two);
    CHECK(Numbers(from) == Expected{2});
    CHECK(Numbers(to) == Expected{1, 3, 4});
  }
}

}  // namespace evrelay
