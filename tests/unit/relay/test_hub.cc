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
  bool unreachable = false;
  int asked = 0;  // whether it has been delivered
  std::string received;
  std::size_t room = SIZE_MAX;  // bytes the socket still takes
  bool broken = false;
  bool dead = false;  // likewise: it does not answer
  bool lingers = false;

  Connection* connection = nullptr;  // null: destroyed
  ConnectionId id;
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
    if (peer_->dead) return {SendResult::kDead, 0};
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
  bool Delivered() const noexcept override {
    ++peer_->asked;
    return peer_->delivered;
  }
  bool Unreachable() const noexcept override { return peer_->unreachable; }
  bool Linger() noexcept override {
    peer_->ended = true;
    return peer_->lingers;
  }
  void Reset() noexcept override { peer_->reset = true; }
  std::uint32_t Unhandled() const override { return 0; }
  std::string Peer() const noexcept override { return "a test"; }

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
    peer->id = peer->connection->id();
    return peer;
  }
  // The same while there is a script: it is to decide.
  std::shared_ptr<FakePeer> Announce() {
    auto peer = std::make_shared<FakePeer>();
    peer->scripted = true;
    hub.Add(std::make_unique<FakeConnection>(peer, counters));
    peer->id = peer->connection->id();
    return peer;
  }
  // The script's word on the last event of this connection, which may be gone.
  void Say(const std::shared_ptr<FakePeer>& peer, std::vector<Action> actions,
           HookEventKind event = HookEventKind::kMessageReceived,
           HookOutcome outcome = HookOutcome::kDone) {
    Command command;
    command.connection = peer->id;
    command.event = event;
    command.outcome = outcome;
    for (Action& action : actions) command.verdict.Add(std::move(action), 0);
    hub.Apply(command);
  }
  void SayNew(const std::shared_ptr<FakePeer>& peer, std::vector<Action> actions = {},
              HookOutcome outcome = HookOutcome::kDone) {
    Say(peer, std::move(actions), HookEventKind::kConnectionNew, outcome);
  }
  void SayClosed(const std::shared_ptr<FakePeer>& peer, std::vector<Action> actions = {}) {
    Say(peer, std::move(actions), HookEventKind::kConnectionClosed);
  }
  // Announced, and let in.
  std::shared_ptr<FakePeer> LetIn(std::string_view tag = {}) {
    auto peer = Announce();
    std::vector<Action> actions;
    if (!tag.empty()) actions.push_back(action::SetTag{std::string(tag)});
    SayNew(peer, std::move(actions));
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

TEST_CASE_METHOD(HubTest, "hub: somebody is there exactly when an event reaches somebody") {
  const auto check = [&](bool any, bool tagged) {
    CHECK(hub.AnySubscriber() == any);
    CHECK(hub.AnySubscriber("tag") == tagged);
    CHECK_FALSE(hub.AnySubscriber("ta"));
    CHECK((hub.Relay("x") != 0) == any);
    CHECK((hub.Multicast("x", "tag") != 0) == tagged);
    CHECK((hub.Unicast("x", "tag") != 0) == tagged);
    Flush();
  };
  check(false, false);
  const auto admitting = Announce();
  check(true, false);
  SayNew(admitting, {action::SetTag{"tag"}});
  check(true, true);
  Say(admitting, {action::SetTag{"other"}});
  check(true, false);
  const auto second = LetIn("tag");
  check(true, true);
  Say(admitting, {action::Close{}});
  check(true, true);
  hub.OnGone(*second->connection, CloseReason::kReset);
  check(false, false);
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
  constexpr std::uint64_t kDirect = 100 + DirectQueue::kFrameCost;
  HubTest test(With(2 * kDirect + 200, SlowPolicy::kSkip));
  const auto slow = test.Admit();
  slow->room = 0;
  const auto push = [&](char fill) { test.Say(slow, {action::Reply{Payload(fill)}}); };
  test.hub.Relay(Payload('a'));
  push('1');
  push('2');
  test.Flush();
  CHECK(test.hub.MaxLag() == 2 * kDirect + 100);
  test.hub.RelayRun(Wire("bcd"), 3, 3 * 96);
  test.Flush();
  CHECK(test.Dropped(DropReason::kSkipped) == 2);
  CHECK(test.hub.MaxLag() == 2 * kDirect + 200);
  REQUIRE(slow->connection != nullptr);

  SECTION("as many as max_lag allows") {
    push('3');
    test.Flush();
    CHECK(test.hub.MaxLag() == 3 * kDirect);
    CHECK(test.Dropped(DropReason::kSkipped) == 4);
    test.Room(slow, SIZE_MAX);
    test.Flush();
    CHECK(slow->received == Wire("123"));
  }
  SECTION("one more") {
    push('3');
    push('4');
    test.Flush();
    CHECK(slow->connection == nullptr);
    CHECK(test.Closed(CloseReason::kSlowSubscriber) == 1);
    CHECK(test.Dropped(DropReason::kSlowSubscriber) == 4 + 2);
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

// --- what a script decides
// ----------------------------------------------------------------------------------------

TEST_CASE_METHOD(HubTest, "hub: without a script a connection is live at once") {
  const auto peer = Admit();
  CHECK(peer->news == 1);
  CHECK(peer->reading);
  CHECK(hub.admitting() == 0);
  hub.End(*peer->connection, CloseReason::kEof);
  CHECK(peer->closeds == std::vector{CloseReason::kEof});
  CHECK(hub.places() == 1);
  Flush();
  CHECK(hub.places() == 0);
}

TEST_CASE_METHOD(HubTest, "hub: an admitted connection gets every event since it was accepted") {
  hub.Relay("before");
  Flush();
  const auto peer = Announce();
  CHECK(peer->connection->state() == Connection::State::kAdmitting);
  CHECK(hub.Relay("one") == 1);
  Flush();
  CHECK(hub.Relay("two") == 1);
  Flush();
  CHECK(peer->sends == 0);
  CHECK_FALSE(peer->reading);
  CHECK(hub.admitting() == 1);
  CHECK(hub.Queued() == 2);

  SayNew(peer, {action::Relay{"new"}, action::Reply{"hi"}});
  CHECK(peer->reading);
  CHECK(hub.admitting() == 0);
  Flush();
  CHECK(peer->received == "3:one,3:two,3:new,2:hi,");
  CHECK(counters.hook.runs[HookEventKind::kConnectionNew] == 1);
  CHECK(counters.hook.actions.relay == 1);
  CHECK(counters.hook.actions.reply == 1);
  CHECK(hub.log().segments() == 0);
}

TEST_CASE_METHOD(HubTest, "hub: a script without a route lets in") {
  const auto peer = Announce();
  SayNew(peer, {}, HookOutcome::kNoRoute);
  CHECK(peer->connection->state() == Connection::State::kLive);
  CHECK(counters.hook.runs[HookEventKind::kConnectionNew] == 0);
}

TEST_CASE_METHOD(HubTest, "hub: a refused connection gets what its own verdict has for it") {
  const auto peer = Announce();
  const auto other = Admit();
  hub.Relay("secret");
  Flush();
  hub.Relay("more");
  SayNew(peer, {action::Relay{"somebody came"}, action::Reply{"go away"}, action::Close{}});
  CHECK(Dropped(DropReason::kRefused) == 2);
  CHECK(Closed(CloseReason::kHook) == 1);
  CHECK(hub.Relay("later") == 1);
  Flush();
  CHECK(peer->received == "13:somebody came,7:go away,");
  CHECK(peer->ended);
  CHECK(peer->connection == nullptr);
  CHECK(peer->closeds == std::vector{CloseReason::kHook});
  CHECK(other->received == "6:secret,4:more,13:somebody came,5:later,");
}

TEST_CASE_METHOD(HubTest, "hub: a connection-new that fails closes") {
  const auto outcome = GENERATE(HookOutcome::kError, HookOutcome::kTimeout, HookOutcome::kMemory);
  const auto peer = Announce();
  hub.Relay("secret");
  SayNew(peer, {}, outcome);
  Flush();
  CHECK(peer->received.empty());
  CHECK(peer->ended);
  CHECK(Dropped(DropReason::kRefused) == 1);
  CHECK(Closed(CloseReason::kHookError) == 1);
  CHECK(peer->closeds == std::vector{CloseReason::kHookError});
  CHECK(counters.hook.failed[outcome] == 1);
}

TEST_CASE("hub: a connection that is not admitted in time is closed") {
  HubTest test;
  const auto first = test.Announce();
  AdvanceClock(4s);
  const auto second = test.Announce();
  test.hub.Relay("secret");
  AdvanceClock(Hub::kAdmissionTime - 4s);
  test.Turn();
  CHECK(first->connection == nullptr);
  CHECK(first->received.empty());
  CHECK(first->closeds == std::vector{CloseReason::kAdmission});
  CHECK(test.Dropped(DropReason::kRefused) == 1);
  REQUIRE(second->connection != nullptr);

  // The verdict that comes after all changes nothing but what concerns others.
  test.SayNew(first, {action::SetTag{"t"}, action::Reply{"hi"}, action::Relay{"all"}});
  CHECK(test.counters.hook.stale_actions == 2);
  CHECK(test.hub.Multicast("x", "t") == 0);
  test.SayNew(second);
  test.Flush();
  CHECK(second->received == "6:secret,3:all,");
}

TEST_CASE("hub: a connection that is not admitted before max_lag is closed") {
  const auto policy = GENERATE(SlowPolicy::kDisconnect, SlowPolicy::kSkip, SlowPolicy::kBlock);
  HubTest test(With(300, policy));
  const auto peer = test.Announce();
  test.hub.RelayRun(Wire("ab"), 2, 2 * 96);
  test.Flush();
  REQUIRE(peer->connection != nullptr);
  test.hub.RelayRun(Wire("c"), 1, 96);
  test.Flush();
  CHECK(peer->connection == nullptr);
  CHECK_FALSE(test.hub.holding());
  CHECK(test.Closed(CloseReason::kAdmission) == 1);
  CHECK(test.Dropped(DropReason::kRefused) == 3);
  CHECK(test.hub.admitting() == 0);
  CHECK(test.hub.log().segments() == 0);
}

TEST_CASE_METHOD(HubTest, "hub: a conidx is free when connection-closed has run") {
  const auto peer = LetIn();
  Flush();
  hub.OnGone(*peer->connection, CloseReason::kReset);
  CHECK(peer->connection == nullptr);
  CHECK(peer->closeds == std::vector{CloseReason::kReset});
  CHECK(hub.connections() == 0);
  CHECK(hub.places() == 1);
  CHECK(LetIn()->id.conidx == 1);
  SayClosed(peer);
  CHECK(hub.places() == 1);
  CHECK(LetIn()->id.conidx == 0);
}

TEST_CASE_METHOD(HubTest, "hub: one that has ended stays until its connection-closed has run") {
  const auto peer = LetIn("t");
  const auto other = LetIn();
  Flush();
  hub.End(*peer->connection, CloseReason::kEof);
  CHECK(peer->connection->state() == Connection::State::kEnding);
  CHECK_FALSE(peer->reading);
  CHECK(peer->closeds == std::vector{CloseReason::kEof});
  CHECK(Closed(CloseReason::kEof) == 0);
  hub.Relay("one");
  Say(peer, {action::Reply{"answer"}});
  CHECK(hub.Multicast("for t", "t") == 1);
  Flush();
  CHECK_FALSE(peer->ended);

  SayClosed(peer, {action::Relay{"it goes"}});
  CHECK(hub.Relay("after") == 1);
  CHECK(hub.Multicast("for t", "t") == 0);
  Flush();
  CHECK(peer->received == "3:one,6:answer,5:for t,7:it goes,");
  CHECK(peer->connection == nullptr);
  CHECK(other->received == "3:one,7:it goes,5:after,");
  CHECK(Closed(CloseReason::kEof) == 1);
  CHECK(hub.places() == 1);
}

TEST_CASE_METHOD(HubTest, "hub: connection-closed is announced once, with the first reason") {
  const auto peer = LetIn();
  Flush();
  peer->room = 0;
  hub.Relay("due");
  Flush();
  hub.End(*peer->connection, CloseReason::kTruncated);
  hub.End(*peer->connection, CloseReason::kEof);
  SECTION("then a hook closes") { Say(peer, {action::Close{}}); }
  SECTION("then it breaks") {
    hub.OnGone(*peer->connection, CloseReason::kReset);
    CHECK(Dropped(DropReason::kReset) == 1);
  }
  SECTION("then the drain") { hub.Drain(); }
  CHECK(peer->closeds == std::vector{CloseReason::kTruncated});
  SayClosed(peer);
  CHECK(Closed(CloseReason::kTruncated) == 1);
  CHECK(counters.subscribers.closed.total() == 1);
}

TEST_CASE_METHOD(HubTest, "hub: a close by the script delivers what is due until then") {
  const auto peer = LetIn();
  const auto other = LetIn();
  Flush();
  hub.Relay("due");
  Say(peer, {action::Reply{"bye"}, action::Close{}});
  hub.Relay("late");
  CHECK(peer->closeds == std::vector{CloseReason::kHook});
  Say(peer, {action::Reply{"stale"}, action::SetTag{"stale"}});
  CHECK(counters.hook.stale_actions == 2);
  Flush();
  CHECK(peer->received == "3:due,3:bye,");
  CHECK(peer->ended);
  CHECK(other->received == "3:due,4:late,");
  SayClosed(peer);
  CHECK(hub.places() == 1);
}

TEST_CASE_METHOD(HubTest, "hub: a closing connection whose conidx is taken again") {
  const auto peer = LetIn("t");
  Flush();
  peer->room = 0;
  Say(peer, {action::Reply{"due"}, action::Close{}});
  Flush();
  SayClosed(peer);
  REQUIRE(peer->connection != nullptr);
  const auto next = LetIn();
  CHECK(next->id.conidx == peer->id.conidx);
  CHECK(hub.places() == 2);
  Say(peer, {action::Reply{"stale"}, action::Close{}, action::SetTag{"x"}});
  Room(peer, SIZE_MAX);
  Flush();
  CHECK(peer->received == "3:due,");
  CHECK(peer->connection == nullptr);
  REQUIRE(next->connection != nullptr);
  CHECK(next->received.empty());
  CHECK(hub.Unicast("x", "t") == 0);
  CHECK(hub.places() == 1);
  Say(next, {action::Reply{"hello"}});
  Flush();
  CHECK(next->received == "5:hello,");
}

TEST_CASE_METHOD(HubTest, "hub: multicast is for all with the tag, unicast for the lowest conidx") {
  const auto none = LetIn();
  const auto one = LetIn("t");
  const auto two = LetIn("t");
  const auto other = LetIn("T");
  Flush();
  CHECK(hub.Multicast("all", "t") == 2);
  CHECK(hub.Unicast("first", "t") == 1);
  CHECK(hub.Relay("everybody") == 4);
  CHECK(hub.Unicast("nobody", "x") == 0);
  Flush();
  CHECK(one->received == "3:all,5:first,9:everybody,");
  CHECK(two->received == "3:all,9:everybody,");
  CHECK(none->received == "9:everybody,");
  CHECK(other->received == "9:everybody,");

  Say(one, {action::SetTag{"T"}});
  CHECK(hub.Unicast("now", "T") == 1);
  Say(one, {action::SetTag{""}});
  CHECK(hub.Unicast("then", "T") == 1);
  CHECK(hub.Unicast("there", "t") == 1);
  Flush();
  CHECK(one->received == "3:all,5:first,9:everybody,3:now,");
  CHECK(other->received == "9:everybody,4:then,");
  CHECK(two->received == "3:all,9:everybody,5:there,");

  const auto lower = none;
  Say(lower, {action::SetTag{"t"}, action::Unicast{"low", "t"}, action::Multicast{"m", "t"}});
  Flush();
  CHECK(lower->received == "9:everybody,3:low,1:m,");
}

TEST_CASE_METHOD(HubTest, "hub: what is handled is told to the connection, if it is still there") {
  const auto peer = LetIn();
  Command command;
  command.connection = peer->id;
  command.messages = 3;
  command.bytes = 30;
  command.runs = 1;
  command.dropped_no_hook = 1;
  command.dropped_after_close = 1;
  hub.Apply(command);
  CHECK(peer->handled == 3);
  CHECK(peer->handled_bytes == 30);
  hub.OnGone(*peer->connection, CloseReason::kReset);
  hub.Apply(command);
  CHECK(peer->handled == 3);
  CHECK(counters.messages.dropped_no_hook == 2);
  CHECK(counters.messages.dropped_after_close == 2);
  CHECK(counters.hook.runs[HookEventKind::kMessageReceived] == 2);
}

TEST_CASE_METHOD(HubTest, "hub: a multicast costs a turn a place for each member") {
  std::vector<std::shared_ptr<FakePeer>> peers;
  for (int i = 0; i < 5; ++i) peers.push_back(LetIn("t"));
  Command command;
  command.connection = peers[0]->id;
  command.verdict.Add(action::Relay{"all"}, 3);
  CHECK(hub.Apply(command) == 0);
  command.verdict.Add(action::Multicast{"hello", "t"}, 6);
  command.verdict.Add(action::Unicast{"hello", "t"}, 6);
  CHECK(hub.Apply(command) == 6 * DirectQueue::kFrameCost);
}

TEST_CASE("hub: raw format sends direct frames bare") {
  Config config;
  config.netstring_format = false;
  HubTest test(config);
  const auto peer = test.LetIn("t");
  test.hub.Multicast("one", "t");
  test.hub.Relay("two");
  test.Say(peer, {action::Reply{"three"}});
  test.Flush();
  CHECK(peer->received == "onetwothree");
}

TEST_CASE("hub: direct frames count for max_lag, with what each takes beside its bytes") {
  HubTest test(With(300 + 2 * DirectQueue::kFrameCost, SlowPolicy::kDisconnect));
  const auto slow = test.LetIn();
  const auto fast = test.LetIn();
  slow->room = 0;
  test.Say(slow, {action::Reply{Payload('1')}, action::Reply{Payload('2')}});
  test.Flush();
  REQUIRE(slow->connection != nullptr);
  SECTION("alone") { test.Say(slow, {action::Reply{Payload('3')}}); }
  SECTION("with the log") { test.hub.Relay(Payload('a')); }
  test.Flush();
  CHECK(slow->connection == nullptr);
  CHECK(test.Closed(CloseReason::kSlowSubscriber) == 1);
  CHECK(test.Dropped(DropReason::kSlowSubscriber) == 3);
  CHECK(fast->connection != nullptr);
}

TEST_CASE("hub: under policy block hooks are not held back, but bounded") {
  HubTest test(With(300, SlowPolicy::kBlock));
  const auto slow = test.LetIn();
  const auto talker = test.LetIn();
  slow->room = 0;
  test.hub.RelayRun(Wire("abc"), 3, 3 * 96);
  test.Flush();
  CHECK(test.hub.holding());
  const std::string large(1024 * 1024, 'x');
  for (int i = 0; i < 3; ++i) test.Say(talker, {action::Relay{large}});
  test.Flush();
  CHECK(test.hub.holding());
  REQUIRE(slow->connection != nullptr);
  test.Say(talker, {action::Relay{large}});
  test.Flush();
  CHECK(slow->connection == nullptr);
  CHECK(test.Closed(CloseReason::kSlowSubscriber) == 1);
  CHECK_FALSE(test.hub.holding());
  CHECK(talker->received.size() == 300 + 4 * (large.size() + 9));
}

TEST_CASE_METHOD(HubTest, "hub: a drain waits for the script") {
  const auto live = LetIn();
  const auto admitting = Announce();
  Flush();
  hub.Drain();
  CHECK(live->closeds == std::vector{CloseReason::kDrain});
  CHECK(admitting->closeds == std::vector{CloseReason::kDrain});
  CHECK_FALSE(live->reading);
  Say(live, {action::Reply{"answer"}});
  SayNew(admitting, {action::Reply{"welcome"}});
  CHECK_FALSE(admitting->reading);
  SayClosed(live, {action::Relay{"one goes"}});
  Flush();
  CHECK(live->received == "6:answer,8:one goes,");
  CHECK(live->connection == nullptr);
  CHECK(hub.places() == 1);
  SayClosed(admitting);
  Flush();
  CHECK(admitting->received == "7:welcome,8:one goes,");
  CHECK(hub.places() == 0);
  CHECK(Closed(CloseReason::kDrain) == 2);
}

TEST_CASE_METHOD(HubTest, "hub: CutAll cuts those being admitted too") {
  const auto admitting = Announce();
  hub.Relay("one");
  hub.CutAll();
  CHECK(admitting->connection == nullptr);
  CHECK(admitting->closeds == std::vector{CloseReason::kDrain});
  CHECK(Dropped(DropReason::kDrain) == 1);
  CHECK(hub.admitting() == 0);
  CHECK(hub.connections() == 0);
  CheckBooks();
}

TEST_CASE_METHOD(HubTest, "hub: the operator's close delivers what is due until then") {
  const auto peer = LetIn("tag");
  peer->room = 3;
  hub.Relay("one");
  Flush();
  REQUIRE(hub.blocked() == 1);
  CHECK(hub.Close(peer->id.conidx) == Hub::CloseResult::kBegun);
  hub.Relay("two");
  CHECK(hub.Multicast("three", "tag") == 0);
  CHECK(peer->closeds == std::vector{CloseReason::kAdmin});
  CHECK(!peer->reading);
  CHECK(Closed(CloseReason::kAdmin) == 1);
  Flush();
  CHECK(hub.Close(peer->id.conidx) == Hub::CloseResult::kClosing);
  Room(peer, 100);
  peer->lingers = true;
  Flush();
  CHECK(peer->received == "3:one,");
  CHECK(peer->ended);
  CHECK(!peer->reset);
  // It lingers, and its connection-closed has not run.
  CHECK(hub.Close(peer->id.conidx) == Hub::CloseResult::kClosing);
  SayClosed(peer);
  CHECK(hub.Close(peer->id.conidx) == Hub::CloseResult::kNoConnection);
  CHECK(counters.subscribers.closed.total() == 1);
  CHECK(counters.deliveries.dropped.total() == 0);
}

TEST_CASE_METHOD(HubTest, "hub: the operator's close of one that is being admitted refuses it") {
  const auto peer = Announce();
  hub.Relay("one");
  Flush();
  CHECK(hub.Close(peer->id.conidx) == Hub::CloseResult::kBegun);
  CHECK(peer->closeds == std::vector{CloseReason::kAdmin});
  hub.Relay("two");
  Flush();
  CHECK(peer->connection == nullptr);
  CHECK(peer->received.empty());
  CHECK(peer->ended);
  CHECK(!peer->reset);
  CHECK(Closed(CloseReason::kAdmin) == 1);
  CHECK(Dropped(DropReason::kRefused) == 1);
  CHECK(counters.deliveries.due == 1);
  CHECK(hub.places() == 1);
  // The verdict comes too late for it.
  SayNew(peer, {action::SetTag{"tag"}, action::Reply{"welcome"}});
  CHECK(counters.hook.stale_actions == 2);
  SayClosed(peer);
  CHECK(hub.places() == 0);
}

TEST_CASE_METHOD(HubTest,
                 "hub: the operator's close of one that ends does not wait for the script") {
  const auto peer = LetIn();
  Flush();
  hub.End(*peer->connection, CloseReason::kEof);
  hub.Relay("one");
  CHECK(hub.Close(peer->id.conidx) == Hub::CloseResult::kBegun);
  hub.Relay("two");
  Flush();
  CHECK(peer->received == "3:one,");
  CHECK(peer->connection == nullptr);
  // It had ended before.
  CHECK(peer->closeds == std::vector{CloseReason::kEof});
  CHECK(Closed(CloseReason::kEof) == 1);
  CHECK(Closed(CloseReason::kAdmin) == 0);
  SayClosed(peer);
  CHECK(hub.places() == 0);
}

TEST_CASE_METHOD(HubTest, "hub: only a conidx that somebody has can be closed") {
  CHECK(hub.Close(0) == Hub::CloseResult::kNoConnection);
  const auto zero = Admit();
  const auto one = Admit();
  const auto two = Admit();
  hub.OnGone(*one->connection, CloseReason::kReset);
  CHECK(hub.Close(1) == Hub::CloseResult::kNoConnection);
  CHECK(hub.Close(3) == Hub::CloseResult::kNoConnection);
  CHECK(hub.Close(UINT32_MAX) == Hub::CloseResult::kNoConnection);
  CHECK(hub.live() == 2);
  // Without a script nothing is to be waited for: the conidx is free at once.
  CHECK(hub.Close(2) == Hub::CloseResult::kBegun);
  CHECK(hub.Close(2) == Hub::CloseResult::kNoConnection);
  CHECK(hub.FirstFrom(0) == zero->connection);
  CHECK(hub.FirstFrom(1) == nullptr);
  Flush();
  CHECK(two->connection == nullptr);
}

TEST_CASE_METHOD(HubTest, "hub: what the operator sees of connections") {
  const auto live = LetIn("tag");
  const auto blocked = LetIn();
  const auto admitting = Announce();
  blocked->room = 4;
  hub.Relay("one");
  Flush();
  CHECK(hub.FirstFrom(0) == live->connection);
  CHECK(hub.FirstFrom(1) == blocked->connection);
  CHECK(hub.FirstFrom(2) == admitting->connection);
  CHECK(hub.FirstFrom(3) == nullptr);
  CHECK(hub.TagOf(*live->connection) == "tag");
  CHECK(hub.TagOf(*blocked->connection).empty());
  CHECK(hub.LagOf(*live->connection) == 0);
  CHECK(hub.LagOf(*blocked->connection) == 2);
  CHECK(hub.LagOf(*admitting->connection) == 6);
  hub.Relay("two");
  CHECK(hub.LagOf(*live->connection) == 6);
  live->lingers = true;
  CHECK(hub.Close(0) == Hub::CloseResult::kBegun);
  CHECK(hub.TagOf(*live->connection).empty());
  Flush();
  hub.Relay("three");
  REQUIRE(live->ended);
  CHECK(hub.LagOf(*live->connection) == 0);
}

TEST_CASE_METHOD(HubTest, "hub: who has something to acknowledge is looked at until it has") {
  const auto prompt = Admit();
  const auto slow = Admit();
  Flush();
  AdvanceClock(2 * Hub::kAckCheckInterval);
  Turn();
  const int before = prompt->asked;
  // Nothing has been sent since.
  AdvanceClock(1h);
  Turn();
  CHECK(prompt->asked == before);

  hub.Relay("one");
  Flush();
  slow->delivered = false;
  CHECK(prompt->asked == before);
  for (int check = 1; check <= 3; ++check) {
    AdvanceClock(Hub::kAckCheckInterval - 1s);
    Turn();
    CHECK(slow->asked < before + check);
    AdvanceClock(1100ms);
    Turn();
    CHECK(slow->asked == before + check);
    CHECK(prompt->asked == before + 1);
  }
  // When nobody has, the last look was the last.
  slow->delivered = true;
  AdvanceClock(Hub::kAckCheckInterval + 100ms);
  Turn();
  CHECK(slow->asked == before + 4);
  AdvanceClock(1h);
  Turn();
  CHECK(slow->asked == before + 4);
  CHECK(hub.live() == 2);
}

TEST_CASE_METHOD(HubTest,
                 "hub: of many who have something to acknowledge, few are looked at in a turn") {
  constexpr int kFew = Hub::kAckChecks;
  constexpr int kMany = 5 * kFew / 2;
  const StoppedClock clock;
  std::vector<std::shared_ptr<FakePeer>> peers;
  for (int i = 0; i < kMany; ++i) peers.push_back(LetIn("t"));
  const auto idle = LetIn();
  const auto asked = [&] {
    int sum = 0;
    for (const auto& peer : peers) sum += peer->asked;
    return sum;
  };
  const auto wait = [&](std::chrono::nanoseconds time) {
    AdvanceClock(time + 100us);
    Turn();
  };
  // What a transport sends by itself, as for a handshake, is to be acknowledged too.
  Flush();
  wait(Hub::kAckCheckInterval);
  for (int i = 0; i < 3; ++i) wait(Hub::kAckCheckPause);
  CHECK(asked() == kMany);
  CHECK(idle->asked == 1);

  hub.Multicast("one", "t");
  Flush();
  for (const auto& peer : peers) peer->delivered = false;
  for (int round = 1; round <= 3; ++round) {
    wait(Hub::kAckCheckInterval);
    CHECK(asked() == round * kMany + kFew);
    // What is sent meanwhile is for the next round.
    hub.Multicast("two", "t");
    Flush();
    wait(Hub::kAckCheckPause);
    CHECK(asked() == round * kMany + 2 * kFew);
    wait(Hub::kAckCheckPause);
    for (const auto& peer : peers) CHECK(peer->asked == round + 1);
    wait(Hub::kAckCheckPause);
    CHECK(asked() == (round + 1) * kMany);
  }
  CHECK(idle->asked == 1);

  // When turns are long, a round is no longer for that.
  wait(Hub::kAckCheckInterval);
  CHECK(asked() == 4 * kMany + kFew);
  wait(2 * Hub::kAckCheckPause);
  CHECK(asked() == 5 * kMany);

  // Some go in the middle of a round, and those that stay are still looked at.
  wait(Hub::kAckCheckInterval);
  for (std::size_t i = 0; i < peers.size(); i += 2) {
    hub.OnGone(*peers[i]->connection, CloseReason::kReset);
  }
  wait(Hub::kAckCheckPause);
  for (std::size_t i = 1; i < peers.size(); i += 2) CHECK(peers[i]->asked == 6);
  CheckBooks();
}

TEST_CASE_METHOD(HubTest, "hub: what is sent to others puts no look off") {
  const StoppedClock clock;
  std::vector<std::shared_ptr<FakePeer>> peers;
  for (std::size_t i = 0; i < 2 * Hub::kAckChecks; ++i) peers.push_back(Admit());
  hub.Relay("one");
  Flush();
  AdvanceClock(Hub::kAckCheckInterval - 1s);
  Admit();
  Turn();
  AdvanceClock(1100ms);
  Turn();
  CHECK(peers.front()->asked == 1);
  CHECK(peers.back()->asked == 0);
  Admit();
  Flush();
  AdvanceClock(Hub::kAckCheckPause + 100us);
  Turn();
  CHECK(peers.back()->asked == 1);
}

TEST_CASE_METHOD(HubTest, "hub: when everything is acknowledged no timer is left") {
  Admit();
  hub.Relay("one");
  Flush();
  CHECK(ev_run(loop.raw(), EVRUN_NOWAIT) != 0);
  AdvanceClock(Hub::kAckCheckInterval + 100ms);
  Turn();
  CHECK(ev_run(loop.raw(), EVRUN_NOWAIT) == 0);
}

TEST_CASE_METHOD(HubTest, "hub: one that has not taken anything is looked at as well") {
  const auto blocked = Admit();
  Flush();
  AdvanceClock(1h);
  Turn();
  blocked->room = 0;
  hub.Relay("one");
  Flush();
  blocked->delivered = false;
  blocked->unreachable = true;
  AdvanceClock(Hub::kAckCheckInterval + 100ms);
  Turn();
  CHECK(blocked->connection == nullptr);
}

TEST_CASE_METHOD(HubTest, "hub: a drain does not look for dead peers") {
  const auto blocked = Admit();
  blocked->room = 0;
  hub.Relay("one");
  Flush();
  blocked->delivered = false;
  blocked->unreachable = true;
  hub.Drain();
  Flush();
  AdvanceClock(Hub::kAckCheckInterval + 100ms);
  Turn();
  CHECK(blocked->connection != nullptr);
  CHECK(Closed(CloseReason::kDeadPeer) == 0);
}

TEST_CASE_METHOD(HubTest,
                 "hub: who is gone without a word is closed, what it was to get is dropped") {
  // Its buffer takes what is sent for long, so it need not be blocked.
  const auto quiet = Admit();
  const auto blocked = Admit();
  const auto reading = Admit();
  Flush();
  blocked->room = 7;
  hub.Relay("one");
  hub.Relay("two");
  Flush();
  quiet->delivered = blocked->delivered = reading->delivered = false;
  AdvanceClock(Hub::kAckCheckInterval + 100ms);
  Turn();
  CHECK(hub.live() == 3);
  quiet->unreachable = blocked->unreachable = true;
  AdvanceClock(Hub::kAckCheckInterval + 100ms);
  Turn();
  CHECK(quiet->connection == nullptr);
  CHECK(blocked->connection == nullptr);
  CHECK(reading->connection != nullptr);
  CHECK(quiet->reset);
  CHECK(blocked->closeds == std::vector{CloseReason::kDeadPeer});
  CHECK(Closed(CloseReason::kDeadPeer) == 2);
  CHECK(Dropped(DropReason::kDeadPeer) == 1);
  CHECK(counters.deliveries.dropped.total() == 1);
  CHECK(hub.log().bytes() == 0);
  CheckBooks();
}

TEST_CASE_METHOD(HubTest, "hub: one that is gone need not wait for its connection-closed to run") {
  const auto peer = LetIn();
  hub.Relay("one");
  Flush();
  hub.End(*peer->connection, CloseReason::kEof);
  peer->delivered = false;
  peer->unreachable = true;
  AdvanceClock(Hub::kAckCheckInterval + 100ms);
  Turn();
  CHECK(peer->connection == nullptr);
  // It had ended before.
  CHECK(peer->closeds == std::vector{CloseReason::kEof});
  CHECK(Closed(CloseReason::kEof) == 1);
  SayClosed(peer);
  CHECK(hub.places() == 0);
}

TEST_CASE_METHOD(HubTest, "hub: closing connections have their own deadline") {
  const auto closing = Admit();
  const auto lingering = Admit();
  Flush();
  closing->room = 0;
  lingering->lingers = true;
  hub.Relay("one");
  Flush();
  AdvanceClock(Hub::kAckCheckInterval - 1s);
  for (const auto& peer : {closing, lingering}) {
    hub.End(*peer->connection, CloseReason::kEof);
    peer->delivered = false;
    peer->unreachable = true;
  }
  Flush();
  AdvanceClock(1100ms);
  Turn();
  CHECK(closing->connection != nullptr);
  CHECK(lingering->connection != nullptr);
  CHECK(Closed(CloseReason::kDeadPeer) == 0);
}

TEST_CASE_METHOD(HubTest, "hub: a send that finds the peer gone says so") {
  const auto dead = Admit();
  const auto broken = Admit();
  Flush();
  dead->dead = true;
  broken->broken = true;
  hub.Relay("one");
  Flush();
  CHECK(dead->closeds == std::vector{CloseReason::kDeadPeer});
  CHECK(broken->closeds == std::vector{CloseReason::kReset});
  CHECK(Dropped(DropReason::kDeadPeer) == 1);
  CHECK(Dropped(DropReason::kReset) == 1);
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
