#include <algorithm>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
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

constexpr std::uint64_t kMaxLag = 64 * kKiB;
// Bytes that a frame of 1000 bytes of payload takes.
constexpr std::size_t kFrame = 1006;

// Sockets that are soon full.
Config With(SlowPolicy policy) {
  Config config;
  config.send_buffer = 4096;
  config.slow_subscriber = {kMaxLag, policy, 10s};
  return config;
}

// Feeds small pieces, and reads what `reader` gets between them.
void FeedAndRead(RelayOnLoop& relay, Peer& producer, std::string_view wire, Peer& reader) {
  while (!wire.empty()) {
    const std::size_t n = relay.Feed(producer, wire.substr(0, 3000));
    REQUIRE(n > 0);
    wire.remove_prefix(n);
    relay.Receive(reader);
  }
}

}  // namespace

TEST_CASE("slow subscribers: policy disconnect closes at max_lag; nobody else notices") {
  const auto family = GENERATE(Family::kUnix, Family::kTcp);
  RelayOnLoop relay(With(SlowPolicy::kDisconnect), family);
  Peer stalled = relay.Subscriber();
  Peer reading = relay.Subscriber();
  Peer producer = relay.Producer();
  const std::string wire = Numbered(1000, 1000);
  std::string_view rest = wire;
  std::uint64_t largest_lag = 0;
  while (relay.hub.live() == 2) {
    REQUIRE_FALSE(rest.empty());
    largest_lag = std::max(largest_lag, relay.hub.MaxLag());
    FeedAndRead(relay, producer, rest.substr(0, kFrame), reading);
    rest.remove_prefix(kFrame);
  }
  CHECK(largest_lag < kMaxLag);
  CHECK(largest_lag > kMaxLag - 2 * kFrame);
  FeedAndRead(relay, producer, rest, reading);
  CHECK(relay.PumpUntil([&] {
    reading.Read();
    return reading.received.size() >= wire.size();
  }));
  CHECK((reading.received == wire));
  CHECK(relay.Closed(CloseReason::kSlowSubscriber) == 1);
  CHECK(relay.Dropped(DropReason::kSlowSubscriber) == relay.counters.deliveries.dropped.total());
  CHECK(relay.Dropped(DropReason::kSlowSubscriber) > 0);
  CHECK(relay.hub.log().segments() == 0);

  // What it did get are whole frames from the first on; only the last may be cut.
  CHECK(relay.PumpUntil([&] {
    stalled.Read();
    return stalled.end != Peer::End::kNone;
  }));
  if (family == Family::kTcp) CHECK(stalled.end == Peer::End::kReset);
  CHECK((stalled.received == wire.substr(0, stalled.received.size())));
}

TEST_CASE("slow subscribers: policy skip gives whole frames, the newest, and counts the rest") {
  RelayOnLoop relay(With(SlowPolicy::kSkip));
  Peer slow = relay.Subscriber();
  Peer reading = relay.Subscriber();
  Peer producer = relay.Producer();
  std::string all;
  std::uint64_t events = 0;
  for (int round = 0; round < 5; ++round) {
    const std::string wire = Numbered(200, 1000, static_cast<char>('a' + round));
    FeedAndRead(relay, producer, wire, reading);
    all += wire;
    events += 200;
    CHECK(relay.hub.MaxLag() <= kMaxLag + kFrame + 3000);
    slow.Read(5000);
    relay.Pump();
  }
  CHECK((reading.received == all));
  relay.Receive(slow);
  CHECK(relay.hub.live() == 2);
  CHECK(relay.Dropped(DropReason::kSkipped) == relay.counters.deliveries.dropped.total());

  std::size_t used = 0;
  const std::size_t frames = WholeFrames(slow.received, used);
  CHECK(used == slow.received.size());
  CHECK(frames + relay.Dropped(DropReason::kSkipped) == events);
  CHECK(frames < events);
  // The end is there, from the oldest frame within max_lag on.
  const std::size_t kept = kMaxLag / kFrame * kFrame;
  CHECK((slow.received.substr(slow.received.size() - kept) == all.substr(all.size() - kept)));
  // No frame that the others did not get, and all in their order.
  std::size_t place = 0;
  for (std::size_t at = 0; at < slow.received.size(); at += kFrame) {
    place = all.find(slow.received.substr(at, kFrame), place);
    REQUIRE(place != std::string::npos);
  }
}

TEST_CASE("slow subscribers: policy block holds producers back, and releases them") {
  RelayOnLoop relay(With(SlowPolicy::kBlock));
  Peer slow = relay.Subscriber();
  Peer reading = relay.Subscriber();
  Peer one = relay.Producer();
  Peer two = relay.Producer();
  const std::string wire = Numbered(4000, 1000);
  const std::size_t taken = relay.Feed(one, wire);
  CHECK(taken < wire.size());
  CHECK(relay.hub.holding());
  CHECK(relay.hub.MaxLag() <= kMaxLag + ProducerPort::kTurnIntake);
  CHECK(relay.counters.loop.holds >= 1);

  // The other producer is not heard either.
  const std::uint64_t relayed = relay.counters.events.relayed;
  two.Write("3:two," + EncodeList({"ping"}));
  CHECK(relay.Receive(two).empty());
  relay.Receive(reading);
  CHECK(relay.counters.events.relayed == relayed);

  std::size_t fed = taken;
  std::string_view rest = std::string_view(wire).substr(taken);
  CHECK(relay.PumpUntil([&] {
    slow.Read(20'000);
    reading.Read();
    const std::size_t n = one.Write(rest);
    rest.remove_prefix(n);
    fed += n;
    return slow.received.size() >= wire.size() + 6 && reading.received.size() >= wire.size() + 6;
  }));
  CHECK(fed == wire.size());
  CHECK_FALSE(relay.hub.holding());
  CHECK(relay.Receive(two) == EncodeList({"ok"}));
  CHECK((relay.Receive(slow) == reading.received));
  std::size_t used = 0;
  CHECK(WholeFrames(slow.received, used) == 4001);
  CHECK(used == slow.received.size());
  CHECK(relay.counters.deliveries.dropped.total() == 0);
  CHECK(relay.hub.log().segments() == 0);
}

TEST_CASE("slow subscribers: policy block stops producers that wait for their turn") {
  RelayOnLoop relay(With(SlowPolicy::kBlock));
  Peer slow = relay.Subscriber();
  std::vector<Peer> producers;
  std::size_t written = 0;
  for (int i = 0; i < 10; ++i) producers.push_back(relay.Producer());
  for (std::size_t i = 0; i < producers.size(); ++i) {
    // Whole frames, so that nothing stays behind in the end.
    const std::string wire = Numbered(100, 1000, static_cast<char>('a' + i));
    REQUIRE(producers[i].Write(wire) == wire.size());
    written += wire.size();
  }
  REQUIRE(written > kMaxLag + 2 * ProducerPort::kTurnIntake);
  for (int turns = 0; turns < 5; ++turns) relay.Pump();
  CHECK(relay.hub.holding());
  CHECK(relay.hub.MaxLag() <= kMaxLag + ProducerPort::kTurnIntake);
  CHECK(relay.counters.events.bytes <= kMaxLag + 2 * ProducerPort::kTurnIntake);
  CHECK(relay.Receive(slow).size() == written);
  CHECK(relay.counters.deliveries.dropped.total() == 0);
}

TEST_CASE("slow subscribers: policy block closes one that takes no byte for stall_timeout") {
  RelayOnLoop relay(With(SlowPolicy::kBlock));
  Peer dead = relay.Subscriber();
  Peer reading = relay.Subscriber();
  Peer producer = relay.Producer();
  const std::string wire = Numbered(1000, 1000);
  const std::size_t fed = relay.Feed(producer, wire);
  REQUIRE(fed < wire.size());
  relay.Receive(reading);
  REQUIRE(relay.hub.holding());
  REQUIRE(relay.hub.blocked() == 1);
  AdvanceClock(9900ms);
  relay.Pump();
  CHECK(relay.hub.live() == 2);
  AdvanceClock(200ms);
  relay.Pump();
  CHECK(relay.Closed(CloseReason::kStalled) == 1);
  CHECK(relay.Dropped(DropReason::kStalled) > 0);
  relay.Receive(reading);
  CHECK_FALSE(relay.hub.holding());
  FeedAndRead(relay, producer, std::string_view(wire).substr(fed), reading);
  CHECK((reading.received == wire));
}

TEST_CASE("slow subscribers: policy block waits for one that takes a little now and then") {
  RelayOnLoop relay(With(SlowPolicy::kBlock));
  Peer slow = relay.Subscriber();
  Peer producer = relay.Producer();
  relay.Feed(producer, Numbered(1000, 1000));
  for (int i = 0; i < 5; ++i) {
    REQUIRE(relay.hub.holding());
    AdvanceClock(9s);
    relay.Pump();
    // As much as the kernel needs to ask for more.
    while (relay.hub.blocked() == 1 && relay.counters.loop.sends != 0) {
      const std::uint64_t sends = relay.counters.loop.sends;
      REQUIRE(slow.Read(1000));
      relay.Pump();
      if (relay.counters.loop.sends != sends) break;
    }
  }
  CHECK(relay.hub.live() == 1);
  CHECK(relay.Closed(CloseReason::kStalled) == 0);
}

TEST_CASE("slow subscribers: who is not read at all keeps the others from nothing") {
  // Without a policy in reach: the lag stays below max_lag.
  Config config;
  config.send_buffer = 4096;
  RelayOnLoop relay(config);
  Peer stalled = relay.Subscriber();
  Peer reading = relay.Subscriber();
  Peer producer = relay.Producer();
  const std::string wire = Numbered(5000, 1000);
  FeedAndRead(relay, producer, wire, reading);
  CHECK((reading.received == wire));
  CHECK(relay.hub.blocked() == 1);
  CHECK(relay.hub.MaxLag() > wire.size() - 100'000);
  // Of each segment at most the room for one read is left empty.
  CHECK(relay.hub.log().segments() <=
        1 + wire.size() / (Segment::kSize - 2 * ProducerPort::kMinRoom));
  CHECK((relay.Receive(stalled) == wire));
  CHECK(relay.hub.log().segments() == 0);
}

}  // namespace evrelay
