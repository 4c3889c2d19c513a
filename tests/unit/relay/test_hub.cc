// The hub over connections whose sockets are strings.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "evrelay/netstring.h"
#include "relay/hub.h"
#include "support/catch.h"
#include "support/clock.h"

namespace evrelay {
namespace {

using namespace std::chrono_literals;

// What a test sees and decides of a connection, also after the hub has destroyed it.
struct FakePeer {
  bool delivered = true;
  std::string received;
  std::size_t room = SIZE_MAX;  // bytes the socket still takes
  bool broken = false;
  bool lingers = false;

  Connection* connection = nullptr;  // null: destroyed
  int sends = 0;
  bool scripted = false;  // its events go to a script
  int news = 0;
  std::vector<CloseReason> closeds;
  std::uint32_t handled = 0;
  std::uint64_t handled_bytes = 0;
  bool reading = false;
  bool ended = false;  // our side's orderly end
  bool reset = false;
};

class FakeConnection final : public Connection {
 public:
  FakeConnection(std::shared_ptr<FakePeer> peer, Counters& counters)
      : peer_(std::move(peer)), counters_(counters) {
    peer_->connection = this;
  }
  ~FakeConnection() override { peer_->connection = nullptr; }

  Sent Send(BroadcastLog& log) noexcept override {
    ++peer_->sends;
    if (peer_->broken) return {SendResult::kBroken, 0};
    std::size_t total = 0;
    while (true) {
      iovec pieces[2];
      const std::size_t count = outbox().Gather(log, pieces, 2);
      std::size_t due = 0;
      std::size_t taken = 0;
      for (std::size_t i = 0; i < count; ++i) {
        const std::size_t n = std::min(pieces[i].iov_len, peer_->room);
        peer_->received.append(static_cast<const char*>(pieces[i].iov_base), n);
        peer_->room -= n;
        due += pieces[i].iov_len;
        taken += n;
      }
      total += taken;
      const Outbox::Consumed consumed = outbox().Consume(log, taken);
      counters_.deliveries.written += consumed.written;
      if (consumed.drained) return {SendResult::kDrained, total};
      if (taken < due) return {SendResult::kBlocked, total};
    }
  }
  bool AnnounceNew() noexcept override {
    ++peer_->news;
    return peer_->scripted;
  }
  bool AnnounceClosed(CloseReason reason) noexcept override {
    peer_->closeds.push_back(reason);
    return peer_->scripted;
  }
  void OnHandled(std::uint32_t messages, std::uint64_t bytes) noexcept override {
    peer_->handled += messages;
    peer_->handled_bytes += bytes;
  }
  void StartReading() noexcept override { peer_->reading = true; }
  void StopReading() noexcept override { peer_->reading = false; }
  bool Delivered() const noexcept override { return peer_->delivered; }
  bool Linger() noexcept override {
    peer_->ended = true;
    return peer_->lingers;
  }
  void Reset() noexcept override { peer_->reset = true; }
  std::string Peer() const override { return "a test"; }

 private:
  std::shared_ptr<FakePeer> peer_;
  Counters& counters_;
};

class HubTest {
 public:
  explicit HubTest(const Config& c = {}) : config(c) {}

  std::shared_ptr<FakePeer> Admit() {
    auto peer = std::make_shared<FakePeer>();
    hub.Add(std::make_unique<FakeConnection>(peer, counters));
    return peer;
  }
  void Flush() {
    hub.Flush();
    CheckBooks();
  }
  // Until nothing is left to do: timers that are due, and the flush that ends their turn.
  void Turn() {
    loop.RunUntilIdle();
    Flush();
  }
  // The peer makes room for `bytes`.
  void Room(const std::shared_ptr<FakePeer>& peer, std::size_t bytes) {
    peer->room = bytes;
    hub.OnWritable(*peer->connection);
  }
  void CheckBooks() {
    const auto& deliveries = counters.deliveries;
    CHECK(deliveries.due == deliveries.written + hub.Queued() + deliveries.dropped.total());
  }
  std::uint64_t Dropped(DropReason reason) { return counters.deliveries.dropped[reason]; }
  std::uint64_t Closed(CloseReason reason) { return counters.subscribers.closed[reason]; }

  Config config;
  Counters counters;
  Loop loop;
  Hub hub{loop, config, counters};
};

Config With(std::uint64_t max_lag, SlowPolicy policy,
            std::chrono::milliseconds stall_timeout = 30s) {
  Config config;
  config.slow_subscriber = {max_lag, policy, stall_timeout};
  return config;
}

// A frame of 100 bytes.
std::string Payload(char fill) { return std::string(96, fill); }
std::string Wire(std::string_view fills) {
  std::string wire;
  for (const char fill : fills) netstring::Append(wire, Payload(fill));
  return wire;
}

}  // namespace

TEST_CASE_METHOD(HubTest, "hub: events of one turn share one send") {
  const auto one = Admit();
  const auto two = Admit();
  Flush();
  const int sends = one->sends;
  CHECK(hub.Relay("hello") == 2);
  hub.RelayRun("1:a,2:bb,", 2, 3);
  CHECK(one->received.empty());
  CHECK(hub.Queued() == 6);
  CHECK(hub.MaxLag() == 17);
  Flush();
  CHECK(one->received == "5:hello,1:a,2:bb,");
  CHECK(two->received == one->received);
  CHECK(one->sends == sends + 1);
  CHECK(counters.events.relayed == 3);
  CHECK(counters.events.bytes == 8);
  CHECK(counters.deliveries.due == 6);
  CHECK(counters.deliveries.written == 6);
  CHECK(hub.Queued() == 0);
  CHECK(hub.MaxLag() == 0);
  CHECK(hub.log().segments() == 0);

  // Without events nobody is touched.
  Flush();
  CHECK(one->sends == sends + 1);
}

TEST_CASE_METHOD(HubTest, "hub: an event without subscribers is for nobody") {
  CHECK(hub.Relay("hello") == 0);
  const auto late = Admit();
  Flush();
  CHECK(late->received.empty());
  CHECK(counters.deliveries.due == 0);
  CHECK(counters.events.relayed == 1);
}

TEST_CASE_METHOD(HubTest, "hub: who is admitted within a turn gets what comes after") {
  const auto early = Admit();
  CHECK(hub.Relay("one") == 1);
  const auto late = Admit();
  CHECK(hub.Relay("two") == 2);
  Flush();
  CHECK(early->received == "3:one,3:two,");
  CHECK(late->received == "3:two,");
  CHECK(counters.subscribers.accepted == 2);
  CHECK(counters.deliveries.due == 3);
}

TEST_CASE("hub: raw format relays bare events") {
  Config config;
  config.netstring_format = false;
  HubTest test(config);
  const auto peer = test.Admit();
  test.hub.RelayRun("5:hello,1:x,", 2, 6);
  test.hub.Relay("raw");
  test.Flush();
  CHECK(peer->received == "helloxraw");
  CHECK(test.counters.events.relayed == 3);
  CHECK(test.counters.events.bytes == 9);
}

TEST_CASE_METHOD(HubTest, "hub: a blocked connection is left alone until its socket takes bytes") {
  const auto slow = Admit();
  const auto fast = Admit();
  slow->room = 3;
  hub.Relay("one");
  Flush();
  CHECK(hub.blocked() == 1);
  CHECK(slow->received == "3:o");
  const int sends = slow->sends;
  hub.Relay("two");
  Flush();
  CHECK(slow->sends == sends);
  CHECK(hub.MaxLag() == 9);
  CHECK(hub.Queued() == 2);
  CHECK(fast->received == "3:one,3:two,");

  Room(slow, 4);
  CHECK(hub.blocked() == 0);
  Flush();
  CHECK(hub.blocked() == 1);
  CHECK(slow->received == "3:one,3");
  Room(slow, SIZE_MAX);
  hub.Relay("three");
  Flush();
  CHECK(hub.blocked() == 0);
  CHECK(slow->received == "3:one,3:two,5:three,");
  CHECK(hub.log().segments() == 0);
}

TEST_CASE_METHOD(HubTest, "hub: the lowest conidx is reused with another generation") {
  const auto one = Admit();
  const auto two = Admit();
  const ConnectionId old = one->connection->id();
  CHECK(old.conidx == 0);
  CHECK(two->connection->id().conidx == 1);
  hub.OnGone(*one->connection, CloseReason::kReset);
  CHECK(one->connection == nullptr);
  CHECK(hub.live() == 1);
  const auto next = Admit();
  CHECK(next->connection->id().conidx == 0);
  CHECK_FALSE(next->connection->id() == old);
}

TEST_CASE_METHOD(HubTest, "hub: End sends what is due, then ends") {
  const auto peer = Admit();
  Flush();
  hub.Relay("due");
  hub.End(*peer->connection, CloseReason::kEof);
  CHECK_FALSE(peer->reading);
  CHECK(hub.live() == 0);
  CHECK(hub.connections() == 1);
  CHECK(Closed(CloseReason::kEof) == 1);
  CHECK(hub.Relay("not for it") == 0);
  hub.End(*peer->connection, CloseReason::kBadSize);  // stays as it is
  Flush();
  CHECK(peer->received == "3:due,");
  CHECK(peer->ended);
  CHECK_FALSE(peer->reset);
  CHECK(peer->connection == nullptr);
  CHECK(hub.connections() == 0);
  CHECK(counters.subscribers.closed.total() == 1);
  CHECK(counters.deliveries.written == 1);
  CHECK(hub.log().segments() == 0);
}

TEST_CASE_METHOD(HubTest, "hub: End with nothing due ends at once") {
  const auto peer = Admit();
  Flush();
  hub.End(*peer->connection, CloseReason::kBadSize);
  Flush();
  CHECK(peer->ended);
  CHECK(peer->connection == nullptr);
  CHECK(Closed(CloseReason::kBadSize) == 1);
}

TEST_CASE_METHOD(HubTest, "hub: a lingering connection is nobody's subscriber") {
  const auto peer = Admit();
  peer->lingers = true;
  hub.Relay("due");
  hub.End(*peer->connection, CloseReason::kTooBig);
  Flush();
  REQUIRE(peer->connection != nullptr);
  CHECK(peer->ended);
  hub.Relay("later");
  Flush();
  CHECK(peer->received == "3:due,");
  CHECK(hub.Queued() == 0);
  CHECK(hub.MaxLag() == 0);
  CHECK(hub.connections() == 1);

  SECTION("its peer ends too") { hub.OnGone(*peer->connection, CloseReason::kEof); }
  SECTION("its peer does not") {
    AdvanceClock(Hub::kLingerTime - 100ms);
    Turn();
    CHECK(peer->connection != nullptr);
    AdvanceClock(200ms);
    Turn();
  }
  CHECK(peer->connection == nullptr);
  CHECK(hub.connections() == 0);
  CHECK(counters.subscribers.closed.total() == 1);
  CHECK(counters.deliveries.dropped.total() == 0);
}

TEST_CASE_METHOD(HubTest, "hub: a closing connection that takes nothing is cut in time") {
  const auto peer = Admit();
  peer->room = 8;
  hub.Relay("one");
  hub.Relay("two");
  Flush();
  hub.End(*peer->connection, CloseReason::kEof);
  AdvanceClock(Hub::kClosingTime - 100ms);
  Turn();
  REQUIRE(peer->connection != nullptr);
  CHECK(hub.Queued() == 2);

  SECTION("it takes the rest in time") {
    Room(peer, SIZE_MAX);
    Flush();
    CHECK(peer->received == "3:one,3:two,");
    CHECK(peer->ended);
    CHECK_FALSE(peer->reset);
    CHECK(counters.deliveries.written == 2);
  }
  SECTION("it does not") {
    AdvanceClock(200ms);
    Turn();
    CHECK(peer->reset);
    CHECK_FALSE(peer->ended);
    CHECK(counters.deliveries.written == 1);
    CHECK(Dropped(DropReason::kClosing) == 1);
  }
  SECTION("it breaks") {
    hub.OnGone(*peer->connection, CloseReason::kReset);
    CHECK(counters.deliveries.written == 1);
    CHECK(Dropped(DropReason::kClosing) == 1);
  }
  CHECK(peer->connection == nullptr);
  CHECK(counters.subscribers.closed.total() == 1);
  Flush();
  CHECK(hub.log().segments() == 0);
}

TEST_CASE_METHOD(HubTest, "hub: a lingering one does not wait for a closing one's longer time") {
  const auto closing = Admit();
  const auto lingering = Admit();
  closing->room = 0;
  lingering->lingers = true;
  hub.Relay("due");
  Flush();
  hub.End(*closing->connection, CloseReason::kEof);
  hub.End(*lingering->connection, CloseReason::kBadSize);
  Flush();
  AdvanceClock(Hub::kLingerTime + 100ms);
  Turn();
  CHECK(lingering->connection == nullptr);
  CHECK(closing->connection != nullptr);
  AdvanceClock(Hub::kClosingTime - Hub::kLingerTime);
  Turn();
  CHECK(closing->connection == nullptr);
}

TEST_CASE_METHOD(HubTest, "hub: several deadlines, one after the other") {
  std::vector<std::shared_ptr<FakePeer>> peers;
  for (int i = 0; i < 3; ++i) {
    peers.push_back(Admit());
    peers.back()->room = 0;
  }
  hub.Relay("due");
  Flush();
  for (const auto& peer : peers) {
    hub.End(*peer->connection, CloseReason::kEof);
    AdvanceClock(1s);
  }
  for (std::size_t gone = 0; gone <= 3; ++gone) {
    Turn();
    for (std::size_t i = 0; i < 3; ++i) CHECK((peers[i]->connection == nullptr) == (i < gone));
    AdvanceClock(gone == 0 ? 2100ms : 1000ms);
  }
  CHECK(Dropped(DropReason::kClosing) == 3);
}

TEST_CASE_METHOD(HubTest, "hub: a broken connection is gone, with what it was due") {
  const auto peer = Admit();
  const auto other = Admit();
  Flush();
  SECTION("found by sending") {
    peer->broken = true;
    hub.Relay("one");
    hub.Relay("two");
    Flush();
  }
  SECTION("found by reading") {
    hub.Relay("one");
    hub.Relay("two");
    hub.OnGone(*peer->connection, CloseReason::kReset);
    Flush();
  }
  SECTION("found by sending, when closing") {
    peer->broken = true;
    hub.Relay("one");
    hub.Relay("two");
    hub.End(*peer->connection, CloseReason::kReset);
    Flush();
    CHECK(Dropped(DropReason::kClosing) == 2);
  }
  CHECK(peer->connection == nullptr);
  CHECK(Closed(CloseReason::kReset) == 1);
  CHECK(Dropped(DropReason::kReset) + Dropped(DropReason::kClosing) == 2);
  CHECK(other->received == "3:one,3:two,");
  CHECK(hub.live() == 1);
}

// --- slow subscribers
// -------------------------------------------------------------------------------

TEST_CASE("hub: policy disconnect closes at max_lag, not before") {
  HubTest test(With(300, SlowPolicy::kDisconnect));
  const auto slow = test.Admit();
  const auto fast = test.Admit();
  slow->room = 150;
  for (const char fill : {'a', 'b', 'c', 'd'}) {
    test.hub.Relay(Payload(fill));
    test.Flush();
  }
  REQUIRE(slow->connection != nullptr);
  CHECK(test.hub.MaxLag() == 250);
  test.hub.Relay(std::string(46, 'e'));  // 50 bytes as a frame
  test.Flush();
  CHECK(slow->connection == nullptr);
  CHECK(slow->reset);
  CHECK_FALSE(slow->ended);
  CHECK(slow->received == Wire("ab").substr(0, 150));
  CHECK(test.Closed(CloseReason::kSlowSubscriber) == 1);
  CHECK(test.counters.deliveries.written == 1 + 5);
  CHECK(test.Dropped(DropReason::kSlowSubscriber) == 4);
  CHECK(fast->received.size() == 450);
  CHECK(test.hub.log().segments() == 0);
}

TEST_CASE("hub: who is not blocked has no lag, however much comes in one turn") {
  HubTest test(With(300, SlowPolicy::kDisconnect));
  const auto peer = test.Admit();
  const std::string wire = Wire("abcdefgh");
  test.hub.RelayRun(wire, 8, 8 * 96);
  test.Flush();
  CHECK(peer->received == wire);
  CHECK(peer->connection != nullptr);
}

TEST_CASE("hub: only those at max_lag are dealt with") {
  const auto policy = GENERATE(SlowPolicy::kDisconnect, SlowPolicy::kSkip);
  HubTest test(With(300, policy));
  const auto slow = test.Admit();
  const auto later = test.Admit();
  slow->room = 0;
  test.hub.RelayRun(Wire("ab"), 2, 2 * 96);
  test.Flush();
  later->room = 0;
  test.hub.Relay(Payload('c'));
  test.hub.Relay(std::string(46, 'd'));
  test.Flush();
  CHECK((slow->connection == nullptr) == (policy == SlowPolicy::kDisconnect));
  REQUIRE(later->connection != nullptr);
  CHECK(test.Dropped(DropReason::kSkipped) == (policy == SlowPolicy::kSkip ? 1 : 0));
  test.Room(later, SIZE_MAX);
  test.Flush();
  CHECK(later->received == Wire("abc") + "46:" + std::string(46, 'd') + ",");
}

TEST_CASE("hub: policy skip drops no direct frames; too many of them close the connection") {
  HubTest test(With(300, SlowPolicy::kSkip));
  const auto slow = test.Admit();
  slow->room = 0;
  const auto push = [&](char fill) {
    slow->connection->outbox().Push(test.hub.log(), Frame(netstring::Encode(Payload(fill))));
    ++test.counters.deliveries.due;
  };
  test.hub.Relay(Payload('a'));
  for (const char fill : {'1', '2', '3'}) push(fill);
  test.Flush();
  test.hub.RelayRun(Wire("bcd"), 3, 3 * 96);
  test.Flush();
  CHECK(test.Dropped(DropReason::kSkipped) == 1);
  REQUIRE(slow->connection != nullptr);

  SECTION("as many as max_lag allows") {
    test.Room(slow, SIZE_MAX);
    test.Flush();
    CHECK(slow->received == Wire("123bcd"));
  }
  SECTION("one more") {
    push('4');
    test.hub.Relay(Payload('e'));
    test.Flush();
    CHECK(slow->connection == nullptr);
    CHECK(test.Closed(CloseReason::kSlowSubscriber) == 1);
    CHECK(test.Dropped(DropReason::kSlowSubscriber) == 4 + 3);
    CHECK(test.Dropped(DropReason::kSkipped) == 2);
  }
}

TEST_CASE("hub: policy skip keeps the newest whole frames") {
  HubTest test(With(300, SlowPolicy::kSkip));
  const auto slow = test.Admit();
  slow->room = 150;
  std::string all;
  for (const char fill : {'a', 'b', 'c', 'd', 'e', 'f', 'g'}) {
    test.hub.Relay(Payload(fill));
    test.Flush();
    CHECK(test.hub.MaxLag() <= 300 + 100);  // exact to one frame
    all += fill;
  }
  REQUIRE(slow->connection != nullptr);
  // a whole and b in part have been sent; e, f and g are kept.
  CHECK(test.Dropped(DropReason::kSkipped) == 2);
  test.Room(slow, SIZE_MAX);
  test.Flush();
  CHECK(slow->received == Wire("abefg"));
  CHECK(test.counters.deliveries.written == 5);
  CHECK(test.hub.log().segments() == 0);
}

TEST_CASE("hub: policy skip with one frame larger than max_lag") {
  HubTest test(With(300, SlowPolicy::kSkip));
  const auto slow = test.Admit();
  slow->room = 10;
  const std::string big(1000, 'a');
  test.hub.Relay(big);
  test.Flush();
  test.hub.Relay(big);
  test.hub.Relay("small");
  test.Flush();
  REQUIRE(slow->connection != nullptr);
  CHECK(test.Dropped(DropReason::kSkipped) == 1);
  test.Room(slow, SIZE_MAX);
  test.Flush();
  CHECK(slow->received == netstring::Encode(big) + "5:small,");
}

TEST_CASE("hub: policy block holds producers back, and loses nothing") {
  HubTest test(With(300, SlowPolicy::kBlock));
  const auto slow = test.Admit();
  slow->room = 0;
  for (const char fill : {'a', 'b'}) {
    test.hub.Relay(Payload(fill));
    test.Flush();
    CHECK_FALSE(test.hub.holding());
  }
  test.hub.Relay(Payload('c'));
  test.Flush();
  CHECK(test.hub.holding());
  CHECK(test.counters.loop.holds == 1);
  test.hub.Relay(Payload('d'));
  test.Flush();
  CHECK(test.hub.holding());
  CHECK(test.counters.loop.holds == 1);

  test.Room(slow, 50);
  test.Flush();
  CHECK(test.hub.holding());
  test.Room(slow, 51);
  test.Flush();
  CHECK_FALSE(test.hub.holding());
  test.hub.Relay(Payload('e'));
  test.Flush();
  CHECK(test.hub.holding());
  CHECK(test.counters.loop.holds == 2);
  test.Room(slow, SIZE_MAX);
  test.Flush();
  CHECK_FALSE(test.hub.holding());
  CHECK(slow->received == Wire("abcde"));
  CHECK(test.counters.deliveries.dropped.total() == 0);
}

TEST_CASE("hub: whoever holds producers back and takes nothing is closed as stalled") {
  HubTest test(With(300, SlowPolicy::kBlock, 10s));
  const auto dead = test.Admit();
  const auto alive = test.Admit();
  dead->room = 0;
  alive->room = 0;
  test.hub.RelayRun(Wire("abcd"), 4, 4 * 96);
  test.Flush();
  REQUIRE(test.hub.holding());

  AdvanceClock(6s);
  test.Room(alive, 10);
  test.Room(dead, 0);  // a wake-up that brings nothing is no progress
  test.Turn();
  CHECK(test.hub.blocked() == 2);
  AdvanceClock(3900ms);
  test.Turn();
  REQUIRE(dead->connection != nullptr);
  AdvanceClock(200ms);
  test.Turn();
  CHECK(dead->connection == nullptr);
  CHECK(dead->reset);
  CHECK(test.Closed(CloseReason::kStalled) == 1);
  CHECK(test.Dropped(DropReason::kStalled) == 4);
  // The other took a byte meanwhile.
  REQUIRE(alive->connection != nullptr);
  CHECK(test.hub.holding());
  AdvanceClock(5700ms);
  test.Turn();
  CHECK(alive->connection != nullptr);
  AdvanceClock(400ms);
  test.Turn();
  CHECK(alive->connection == nullptr);
  CHECK_FALSE(test.hub.holding());
  CHECK(test.Dropped(DropReason::kStalled) == 8);
  CHECK(test.hub.log().segments() == 0);
}

TEST_CASE("hub: only those that hold producers back are stalled") {
  HubTest test(With(300, SlowPolicy::kBlock, 4s));
  const auto dead = test.Admit();
  const auto closing = test.Admit();
  const auto behind = test.Admit();
  dead->room = 0;
  closing->room = 0;
  behind->room = 350;
  test.hub.RelayRun(Wire("abcd"), 4, 4 * 96);
  test.Flush();
  test.hub.End(*closing->connection, CloseReason::kEof);
  test.Flush();
  REQUIRE(test.hub.holding());
  AdvanceClock(4100ms);
  test.Turn();
  CHECK(dead->connection == nullptr);
  CHECK(closing->connection != nullptr);
  CHECK(behind->connection != nullptr);
  CHECK_FALSE(test.hub.holding());
  CHECK(test.Closed(CloseReason::kStalled) == 1);
}

TEST_CASE("hub: time in which nobody was held back does not count as stalled") {
  HubTest test(With(300, SlowPolicy::kBlock, 10s));
  const auto slow = test.Admit();
  slow->room = 0;
  test.hub.Relay(Payload('a'));
  test.Flush();
  AdvanceClock(1min);
  test.Turn();
  CHECK(slow->connection != nullptr);
  test.hub.RelayRun(Wire("bc"), 2, 2 * 96);
  test.Turn();
  REQUIRE(test.hub.holding());
  AdvanceClock(9900ms);
  test.Turn();
  CHECK(slow->connection != nullptr);

  SECTION("released in time") {
    test.Room(slow, 101);
    test.Turn();
    CHECK_FALSE(test.hub.holding());
    AdvanceClock(1min);
    test.Turn();
    CHECK(slow->connection != nullptr);
  }
  SECTION("not released") {
    AdvanceClock(200ms);
    test.Turn();
    CHECK(slow->connection == nullptr);
  }
}

TEST_CASE("hub: a closing subscriber holds nobody back, and gets what it was due") {
  const auto policy = GENERATE(SlowPolicy::kBlock, SlowPolicy::kSkip, SlowPolicy::kDisconnect);
  HubTest test(With(300, policy));
  const auto slow = test.Admit();
  slow->room = 0;
  test.hub.RelayRun(Wire("ab"), 2, 2 * 96);
  test.Flush();
  test.hub.End(*slow->connection, CloseReason::kEof);
  test.hub.RelayRun(Wire("cd"), 2, 2 * 96);
  test.Flush();
  CHECK_FALSE(test.hub.holding());
  REQUIRE(slow->connection != nullptr);
  CHECK(test.Dropped(DropReason::kSkipped) == 0);

  SECTION("in the end") {
    test.Room(slow, SIZE_MAX);
    test.Flush();
    CHECK(slow->received == Wire("ab"));
    CHECK(slow->ended);
  }
  SECTION("but does not make the log grow for ever") {
    test.hub.RelayRun(Wire("efgh"), 4, 4 * 96);
    test.Flush();
    CHECK(slow->connection == nullptr);
    CHECK(slow->reset);
    CHECK(test.Dropped(DropReason::kClosing) == 2);
  }
  CHECK(test.hub.log().segments() == 0);
}

TEST_CASE("hub: one that held producers back and then closes still gets what it was due") {
  HubTest test(With(300, SlowPolicy::kBlock));
  const auto slow = test.Admit();
  slow->room = 0;
  test.hub.RelayRun(Wire("abcdef"), 6, 6 * 96);
  test.Flush();
  REQUIRE(test.hub.holding());
  SECTION("by its own end") { test.hub.End(*slow->connection, CloseReason::kEof); }
  SECTION("as the relay drains") { test.hub.Drain(); }
  test.Flush();
  CHECK_FALSE(test.hub.holding());
  REQUIRE(slow->connection != nullptr);
  test.Room(slow, SIZE_MAX);
  test.Flush();
  CHECK(slow->received == Wire("abcdef"));
  CHECK(slow->connection == nullptr);
  CHECK(test.counters.deliveries.dropped.total() == 0);
}

// --- the end
// ----------------------------------------------------------------------------------------

TEST_CASE_METHOD(HubTest, "hub: Drain ends all; CutAll destroys the rest") {
  const auto caught_up = Admit();
  const auto blocked = Admit();
  const auto closing = Admit();
  const auto lingering = Admit();
  lingering->lingers = true;
  blocked->room = 0;
  closing->room = 0;
  hub.Relay("one");
  Flush();
  hub.End(*closing->connection, CloseReason::kBadType);
  hub.End(*lingering->connection, CloseReason::kEof);
  Flush();
  const auto fresh = Admit();
  hub.Relay("two");

  hub.Drain();
  CHECK(hub.live() == 0);
  CHECK(Closed(CloseReason::kDrain) == 3);
  Flush();
  CHECK(caught_up->received == "3:one,3:two,");
  CHECK(caught_up->ended);
  CHECK(fresh->received == "3:two,");
  CHECK(hub.connections() == 3);
  REQUIRE(blocked->connection != nullptr);
  // A drain has its own time; the others have theirs.
  AdvanceClock(Hub::kClosingTime + 1s);
  Turn();
  CHECK(hub.connections() == 1);
  REQUIRE(blocked->connection != nullptr);

  hub.CutAll();
  CHECK(hub.connections() == 0);
  CHECK(blocked->reset);
  CHECK(Dropped(DropReason::kDrain) == 2);
  CHECK(Dropped(DropReason::kClosing) == 1);
  CHECK(counters.subscribers.closed.total() == 5);
  CheckBooks();
}

TEST_CASE_METHOD(HubTest, "hub: CutAll without a Drain") {
  const auto live = Admit();
  const auto lingering = Admit();
  lingering->lingers = true;
  hub.End(*lingering->connection, CloseReason::kEof);
  Flush();
  hub.Relay("one");
  hub.CutAll();
  CHECK(hub.connections() == 0);
  CHECK(live->reset);
  CHECK_FALSE(lingering->reset);
  CHECK(Closed(CloseReason::kDrain) == 1);
  CHECK(Dropped(DropReason::kDrain) == 1);
  CheckBooks();
}

TEST_CASE("hub: destroys its connections with itself") {
  std::vector<std::shared_ptr<FakePeer>> peers;
  {
    HubTest test;
    for (int i = 0; i < 4; ++i) peers.push_back(test.Admit());
    test.Flush();
    peers[1]->room = 0;
    peers[2]->lingers = true;
    test.hub.Relay("one");
    test.hub.End(*peers[2]->connection, CloseReason::kEof);
    test.Flush();
    test.hub.End(*peers[3]->connection, CloseReason::kEof);
  }
  for (const auto& peer : peers) CHECK(peer->connection == nullptr);
}

}  // namespace evrelay
