#include <chrono>
#include <string>
#include <vector>

#include "evrelay/netstring.h"
#include "loop/relay_on_loop.h"
#include "support/catch.h"
#include "support/clock.h"

namespace evrelay {
namespace {

using namespace std::chrono_literals;
using Family = RelayOnLoop::Family;
using netstring::EncodeList;

// Until the peer has seen the end.
Peer::End EndOf(RelayOnLoop& relay, Peer& peer) {
  relay.PumpUntil([&] {
    peer.Read();
    return peer.end != Peer::End::kNone;
  });
  return peer.end;
}

Config SoonFull() {
  Config config;
  config.send_buffer = 4096;
  return config;
}

}  // namespace

TEST_CASE("closing: a subscriber that ends its side gets what was due, then our end") {
  RelayOnLoop relay({}, GENERATE(Family::kUnix, Family::kTcp));
  Peer subscriber = relay.Subscriber();
  Peer producer = relay.Producer();
  relay.Feed(producer, "3:one,");
  subscriber.Write("5:hello,");
  subscriber.EndWriting();
  CHECK(EndOf(relay, subscriber) == Peer::End::kEof);
  CHECK(subscriber.received == "3:one,");
  CHECK(relay.counters.messages.received == 1);
  CHECK(relay.Closed(CloseReason::kEof) == 1);
  CHECK(relay.hub.connections() == 0);
  relay.Feed(producer, "3:two,");
  CHECK(relay.counters.deliveries.due == 1);
}

TEST_CASE("closing: one that is behind gets what was due before its end, and no more") {
  RelayOnLoop relay(SoonFull());
  Peer subscriber = relay.Subscriber();
  Peer producer = relay.Producer();
  const std::string due = Numbered(200, 1000);
  relay.Feed(producer, due);
  REQUIRE(relay.hub.blocked() == 1);
  subscriber.EndWriting();
  relay.Pump();
  CHECK(relay.hub.live() == 0);
  CHECK(relay.hub.connections() == 1);
  relay.Feed(producer, Numbered(10, 1000, 'l'));
  CHECK(EndOf(relay, subscriber) == Peer::End::kEof);
  CHECK((subscriber.received == due));
  CHECK(relay.counters.deliveries.written == 200);
  CHECK(relay.counters.deliveries.dropped.total() == 0);
  CHECK(relay.hub.connections() == 0);
  CHECK(relay.hub.log().segments() == 0);
}

TEST_CASE("closing: one that does not take what was due is cut in time") {
  RelayOnLoop relay(SoonFull(), Family::kTcp);
  Peer subscriber = relay.Subscriber();
  Peer producer = relay.Producer();
  // More than the two kernels' buffers hold.
  relay.Feed(producer, Numbered(12'000, 1000));
  REQUIRE(relay.PumpUntil([&] { return relay.hub.blocked() == 1; }));
  subscriber.EndWriting();
  REQUIRE(relay.PumpUntil([&] { return relay.hub.live() == 0; }));
  AdvanceClock(Hub::kClosingTime - 1s);
  relay.Pump();
  CHECK(relay.hub.connections() == 1);
  AdvanceClock(2s);
  relay.Pump();
  CHECK(relay.hub.connections() == 0);
  CHECK(relay.Dropped(DropReason::kClosing) > 0);
  CHECK(EndOf(relay, subscriber) == Peer::End::kReset);
}

TEST_CASE("closing: protocol errors of a subscriber, by name") {
  struct Fault {
    std::string bytes;
    CloseReason reason;
  };
  const auto fault = GENERATE(values<Fault>({
      {"x", CloseReason::kBadSize},
      {":", CloseReason::kBadSize},
      {"-1:a,", CloseReason::kBadSize},
      {"1 :a,", CloseReason::kBadSize},
      {"4294967296:", CloseReason::kBadSize},
      {"99999999999999999999999:", CloseReason::kBadSize},
      {"65537:", CloseReason::kTooBig},
      {"1:ab", CloseReason::kBadType},
      {"1:a]", CloseReason::kBadType},
      {EncodeList({"ping"}), CloseReason::kBadType},
  }));
  CAPTURE(fault.bytes);
  const bool split = GENERATE(false, true);
  RelayOnLoop relay({}, GENERATE(Family::kUnix, Family::kTcp));
  Peer subscriber = relay.Subscriber();
  Peer other = relay.Subscriber();
  Peer producer = relay.Producer();
  subscriber.Write("5:hello,");
  if (split) {
    for (const char byte : fault.bytes) {
      subscriber.Write({&byte, 1});
      relay.Pump();
    }
  } else {
    subscriber.Write(fault.bytes);
  }
  CHECK(EndOf(relay, subscriber) == Peer::End::kEof);
  CHECK(relay.Closed(fault.reason) == 1);
  CHECK(relay.counters.subscribers.closed.total() == 1);
  CHECK(relay.counters.messages.received == 1);
  CHECK(relay.hub.live() == 1);

  // Its end is awaited, what it still says is thrown away.
  CHECK(relay.hub.connections() == 2);
  subscriber.Write("5:hello,");
  relay.Feed(producer, "3:one,");
  relay.Pump();
  CHECK(relay.counters.messages.received == 1);
  CHECK(relay.PumpUntil([&] { return relay.Receive(other) == "3:one,"; }));
  subscriber.Close();
  CHECK(relay.PumpUntil([&] { return relay.hub.connections() == 1; }));
  CHECK(relay.counters.subscribers.closed.total() == 1);
}

TEST_CASE("closing: an end within a frame") {
  RelayOnLoop relay;
  Peer subscriber = relay.Subscriber();
  subscriber.Write("5:hello,5:hel");
  subscriber.EndWriting();
  CHECK(EndOf(relay, subscriber) == Peer::End::kEof);
  CHECK(relay.Closed(CloseReason::kTruncated) == 1);
  CHECK(relay.counters.messages.received == 1);
}

TEST_CASE("closing: bad_frame discard goes on with the next read") {
  Config config;
  config.bad_frame = BadFrame::kDiscard;
  RelayOnLoop relay(config);
  Peer subscriber = relay.Subscriber();
  subscriber.Write("2:hi,nonsense 5:hello,");
  relay.Pump();
  CHECK(relay.counters.messages.received == 1);
  CHECK(relay.counters.messages.discarded_bytes == 17);
  subscriber.Write("3:all,");
  relay.Pump();
  CHECK(relay.counters.messages.received == 2);
  CHECK(relay.hub.live() == 1);
}

TEST_CASE("closing: a message of the largest size is none too big") {
  Config config;
  config.max_message = 1000;
  RelayOnLoop relay(config);
  Peer subscriber = relay.Subscriber();
  relay.Feed(subscriber, netstring::Encode(std::string(1000, 'a')));
  CHECK(relay.counters.messages.bytes == 1000);
  CHECK(relay.hub.live() == 1);
  relay.Feed(subscriber, "1001:");
  CHECK(relay.Closed(CloseReason::kTooBig) == 1);
}

TEST_CASE("closing: a peer that never ends its side is not waited for") {
  RelayOnLoop relay({}, GENERATE(Family::kUnix, Family::kTcp));
  Peer subscriber = relay.Subscriber();
  subscriber.Write("x");
  CHECK(EndOf(relay, subscriber) == Peer::End::kEof);
  CHECK(relay.hub.connections() == 1);
  subscriber.Write("and on it goes");
  AdvanceClock(Hub::kLingerTime + 1s);
  relay.Pump();
  CHECK(relay.hub.connections() == 0);
}

TEST_CASE("closing: what was due arrives although the peer goes on sending") {
  RelayOnLoop relay({}, Family::kTcp);
  Peer subscriber = relay.Subscriber();
  Peer producer = relay.Producer();
  const std::string due = Numbered(300, 1000);
  relay.Feed(producer, due);
  subscriber.Write("x");
  relay.PumpUntil([&] { return relay.hub.live() == 0; });
  for (int i = 0; i < 20; ++i) {
    subscriber.Write("still talking");
    relay.Pump();
  }
  CHECK(EndOf(relay, subscriber) == Peer::End::kEof);
  CHECK((subscriber.received == due));
}

TEST_CASE("closing: a subscriber that broke is gone at once") {
  RelayOnLoop relay(SoonFull(), Family::kTcp);
  Peer subscriber = relay.Subscriber();
  Peer producer = relay.Producer();
  SECTION("idle") {}
  SECTION("behind") {
    relay.Feed(producer, Numbered(12'000, 1000));
    REQUIRE(relay.PumpUntil([&] { return relay.hub.blocked() == 1; }));
  }
  subscriber.CloseWithReset();
  CHECK(relay.PumpUntil([&] { return relay.hub.connections() == 0; }));
  CHECK(relay.Closed(CloseReason::kReset) == 1);
  CHECK(relay.Dropped(DropReason::kReset) == relay.counters.deliveries.dropped.total());
  CHECK((relay.counters.deliveries.due == 0 || relay.Dropped(DropReason::kReset) > 0));
  CHECK(relay.hub.log().segments() == 0);
}

TEST_CASE("closing: a closing subscriber that breaks") {
  RelayOnLoop relay(SoonFull(), Family::kTcp);
  Peer subscriber = relay.Subscriber();
  Peer producer = relay.Producer();
  relay.Feed(producer, Numbered(12'000, 1000));
  REQUIRE(relay.PumpUntil([&] { return relay.hub.blocked() == 1; }));
  subscriber.Write("x");
  REQUIRE(relay.PumpUntil([&] { return relay.hub.live() == 0; }));
  subscriber.CloseWithReset();
  CHECK(relay.PumpUntil([&] { return relay.hub.connections() == 0; }));
  CHECK(relay.Closed(CloseReason::kBadSize) == 1);
  CHECK(relay.Dropped(DropReason::kClosing) > 0);
}

TEST_CASE("closing: max_clients turns the surplus away at once") {
  Config config;
  config.max_clients = 2;
  RelayOnLoop relay(config);
  Peer one = relay.Subscriber();
  Peer two = relay.Subscriber();
  Peer surplus = relay.Subscriber();
  CHECK(EndOf(relay, surplus) != Peer::End::kNone);
  CHECK(relay.counters.subscribers.accepted == 2);
  CHECK(relay.counters.subscribers.refused[RefuseReason::kFull] == 1);
  CHECK(relay.hub.connections() == 2);
  // A place becomes free.
  one.Close();
  relay.Pump();
  Peer next = relay.Subscriber();
  Peer producer = relay.Producer();
  relay.Feed(producer, "3:one,");
  CHECK(relay.Receive(next) == "3:one,");
  CHECK(relay.counters.subscribers.accepted == 3);
}

// --- drain
// ------------------------------------------------------------------------------------------

TEST_CASE("drain: producers are heard once more, subscribers get all that was due") {
  RelayOnLoop relay({}, GENERATE(Family::kUnix, Family::kTcp));
  Peer quiet = relay.Subscriber();
  Peer talking = relay.Subscriber();
  talking.Write("5:hello,");
  Peer producer = relay.Producer();
  Peer asking = relay.Producer();
  relay.Pump();
  producer.Write("3:one,3:two,5:trunc");
  asking.Write("5:three," + EncodeList({"relay", "refused"}) + EncodeList({"ping"}));
  relay.Drain();
  CHECK(EndOf(relay, quiet) == Peer::End::kEof);
  CHECK(EndOf(relay, talking) == Peer::End::kEof);
  CHECK(quiet.received == "3:one,3:two,5:three,");
  CHECK(talking.received == quiet.received);
  CHECK(EndOf(relay, producer) == Peer::End::kEof);
  CHECK(EndOf(relay, asking) == Peer::End::kEof);
  CHECK(asking.received.find("8:draining,") != std::string::npos);
  CHECK(relay.counters.requests.errors[ErrorCode::kDraining] == 2);
  CHECK(relay.counters.requests.accepted[Verb::kRelay] == 0);
  CHECK(relay.counters.events.relayed == 3);
  CHECK(relay.Closed(CloseReason::kDrain) == 2);
  CHECK(relay.counters.producers.closed[CloseReason::kDrain] == 2);
  talking.Close();
  CHECK(relay.PumpUntil(
      [&] { return relay.hub.connections() == 0 && relay.producers.connections() == 0; }));
}

TEST_CASE("drain: nobody is let in any more") {
  RelayOnLoop relay;
  Peer subscriber = relay.Subscriber();
  relay.Drain();
  CHECK(EndOf(relay, subscriber) == Peer::End::kEof);
  CHECK(relay.hub.connections() == 0);
}

TEST_CASE("drain: a subscriber that is behind gets all, if it reads") {
  Config config = SoonFull();
  config.slow_subscriber.policy = SlowPolicy::kBlock;
  config.slow_subscriber.max_lag = 64 * kKiB;
  RelayOnLoop relay(config);
  Peer slow = relay.Subscriber();
  Peer stalled = relay.Subscriber();
  Peer producer = relay.Producer();
  const std::string wire = Numbered(1000, 1000);  // 1006 bytes a frame
  const std::size_t fed = relay.Feed(producer, wire);
  REQUIRE(relay.hub.holding());
  relay.Drain();
  relay.Pump();
  CHECK(EndOf(relay, slow) == Peer::End::kEof);
  // What the producer had written when the drain began was heard, as whole frames.
  CHECK((slow.received == wire.substr(0, fed / 1006 * 1006)));
  slow.Close();
  relay.Pump();
  CHECK(relay.hub.connections() == 1);
  relay.hub.CutAll();
  relay.Pump();
  CHECK(relay.hub.connections() == 0);
  CHECK(relay.Dropped(DropReason::kDrain) > 0);
  CHECK(relay.Dropped(DropReason::kDrain) == relay.counters.deliveries.dropped.total());
}

TEST_CASE("drain: a subscriber's unread bytes do not cost it what was due") {
  RelayOnLoop relay({}, Family::kTcp);
  Peer subscriber = relay.Subscriber();
  Peer producer = relay.Producer();
  const std::string due = Numbered(300, 1000);
  relay.Feed(producer, due);
  // They arrive when the relay reads no more.
  subscriber.Write("5:hello,");
  relay.Drain();
  CHECK(EndOf(relay, subscriber) == Peer::End::kEof);
  CHECK((subscriber.received == due));
}

}  // namespace evrelay
