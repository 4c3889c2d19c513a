#include <string>

#include "fanout/direct_queue.h"
#include "support/catch.h"

namespace evrelay {

namespace {
constexpr std::size_t kFrameCost = DirectQueue::kFrameCost;
}  // namespace

TEST_CASE("direct queue: frames wait in order, each with its place") {
  DirectQueue queue;
  CHECK(queue.empty());
  CHECK(queue.size() == 0);
  CHECK(queue.bytes() == 0);

  queue.Push(Frame("1:a,"), 10);
  queue.Push(Frame("2:bb,"), 10);
  queue.Push(Frame("3:ccc,"), 20);
  CHECK_FALSE(queue.empty());
  CHECK(queue.size() == 3);
  CHECK(queue.bytes() == 4 + 5 + 6 + 3 * kFrameCost);
  CHECK(queue.Unsent(0) == "1:a,");
  CHECK(queue.Unsent(1) == "2:bb,");
  CHECK(queue.Unsent(2) == "3:ccc,");
  CHECK(queue.Due(0) == 10);
  CHECK(queue.Due(1) == 10);
  CHECK(queue.Due(2) == 20);
}

TEST_CASE("direct queue: a frame may leave in pieces") {
  DirectQueue queue;
  queue.Push(Frame("1:a,"), 10);
  queue.Push(Frame("2:bb,"), 11);

  CHECK_FALSE(queue.Sent(0));
  CHECK_FALSE(queue.Sent(3));
  CHECK(queue.Unsent(0) == ",");
  CHECK(queue.Unsent(1) == "2:bb,");
  CHECK(queue.bytes() == 1 + 5 + 2 * kFrameCost);
  CHECK(queue.size() == 2);

  CHECK(queue.Sent(1));
  CHECK(queue.Unsent(0) == "2:bb,");
  CHECK(queue.Due(0) == 11);
  CHECK(queue.bytes() == 5 + kFrameCost);
  CHECK(queue.size() == 1);

  CHECK(queue.Sent(5));
  CHECK(queue.empty());
  CHECK(queue.bytes() == 0);
}

TEST_CASE("direct queue: a tail goes first, at once, and is not counted in bytes") {
  DirectQueue queue;
  queue.Push(Frame("1:a,"), 10);
  queue.PushTail(Frame("the rest,"), 4);
  CHECK(queue.size() == 2);
  CHECK(queue.bytes() == 4 + kFrameCost);
  CHECK(queue.Due(0) == 0);
  CHECK(queue.Due(1) == 10);
  CHECK(queue.Unsent(0) == "rest,");
  CHECK(queue.Unsent(1) == "1:a,");

  CHECK_FALSE(queue.Sent(4));
  CHECK(queue.Unsent(0) == ",");
  CHECK(queue.Unsent(1) == "1:a,");
  CHECK(queue.bytes() == 4 + kFrameCost);

  CHECK(queue.Sent(1));
  CHECK(queue.size() == 1);
  CHECK(queue.Unsent(0) == "1:a,");
  CHECK(queue.Due(0) == 10);
  CHECK(queue.Sent(4));
  CHECK(queue.empty());
}

TEST_CASE("direct queue: a tail alone") {
  DirectQueue queue;
  queue.PushTail(Frame("x"), 0);
  CHECK_FALSE(queue.empty());
  CHECK(queue.size() == 1);
  CHECK(queue.bytes() == 0);
  CHECK(queue.Sent(1));
  CHECK(queue.empty());
  // The next one has its place again.
  queue.PushTail(Frame("y"), 0);
  CHECK(queue.Unsent(0) == "y");
}

TEST_CASE("direct queue: a frame that several have queued exists once") {
  const Frame frame("5:hello,");
  DirectQueue one;
  DirectQueue two;
  one.Push(frame, 0);
  two.Push(frame, 0);
  CHECK(one.Unsent(0).data() == two.Unsent(0).data());
  CHECK(one.Sent(8));
  CHECK(two.Unsent(0) == "5:hello,");
}

}  // namespace evrelay
