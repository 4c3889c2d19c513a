#include <algorithm>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "evrelay/netstring.h"
#include "loop/relay_on_loop.h"
#include "support/catch.h"

namespace evrelay {
namespace {

using Family = RelayOnLoop::Family;
using netstring::EncodeList;

}  // namespace

TEST_CASE("relaying: every subscriber gets every event, in one order") {
  RelayOnLoop relay({}, GENERATE(Family::kUnix, Family::kTcp));
  std::vector<Peer> subscribers;
  for (int i = 0; i < 3; ++i) subscribers.push_back(relay.Subscriber());
  Peer one = relay.Producer();
  Peer two = relay.Producer();
  relay.Feed(one, "5:hello,1:a,");
  relay.Feed(two, "1:b,");
  relay.Feed(one, Numbered(1000));
  const std::string expected = "5:hello,1:a,1:b," + Numbered(1000);
  for (Peer& subscriber : subscribers) {
    CHECK(relay.PumpUntil([&] {
      subscriber.Read();
      return subscriber.received.size() >= expected.size();
    }));
    CHECK(relay.Receive(subscriber) == expected);
    CHECK(subscriber.end == Peer::End::kNone);
  }
  CHECK(relay.counters.events.relayed == 1003);
  CHECK(relay.counters.deliveries.due == 3009);
  CHECK(relay.counters.deliveries.written == 3009);
  CHECK(relay.hub.log().segments() == 0);
}

TEST_CASE("relaying: on connect nothing is sent, and what came before is not for the newcomer") {
  RelayOnLoop relay;
  Peer producer = relay.Producer();
  relay.Feed(producer, "5:early,");
  Peer subscriber = relay.Subscriber();
  CHECK(relay.Receive(subscriber).empty());
  relay.Feed(producer, "4:late,");
  CHECK(relay.Receive(subscriber) == "4:late,");
  CHECK(relay.counters.events.relayed == 2);
  CHECK(relay.counters.deliveries.due == 1);
}

TEST_CASE("relaying: an event leaves at once, however it arrived") {
  RelayOnLoop relay;
  Peer subscriber = relay.Subscriber();
  Peer producer = relay.Producer();
  const std::string wire = "5:hello,12:hello, world,";
  for (std::size_t i = 0; i < wire.size(); ++i) {
    producer.Write(wire.substr(i, 1));
    relay.Pump();
    if (i == 7) CHECK(relay.Receive(subscriber) == "5:hello,");
  }
  CHECK(relay.Receive(subscriber) == wire);
}

TEST_CASE("relaying: white space, leading zeros and keepalives are not passed on") {
  RelayOnLoop relay;
  Peer subscriber = relay.Subscriber();
  Peer producer = relay.Producer();
  relay.Feed(producer, " \r\n005:hello,\n0:,000:,3:a\n,,\t1:x,");
  CHECK(relay.Receive(subscriber) == "5:hello,3:a\n,,1:x,");
  CHECK(relay.counters.events.relayed == 3);
  CHECK(relay.counters.events.bytes == 9);
}

TEST_CASE("relaying: requests and data frames keep their order") {
  RelayOnLoop relay;
  Peer one = relay.Subscriber();
  Peer two = relay.Subscriber();
  Peer producer = relay.Producer();
  relay.Feed(producer, "1:a," + EncodeList({"relay", "b"}) + "1:c,1:d," +
                           EncodeList({"relay", "e"}) + "1:f,");
  CHECK(relay.Receive(one) == "1:a,1:b,1:c,1:d,1:e,1:f,");
  CHECK(relay.Receive(two) == one.received);
  CHECK(relay.Receive(producer) == EncodeList({"ok", "2"}) + EncodeList({"ok", "2"}));
}

TEST_CASE("relaying: events of the largest size, and over several segments") {
  Config config;
  config.max_event = 3 * kMiB;
  config.slow_subscriber.policy = SlowPolicy::kBlock;
  RelayOnLoop relay(config);
  Peer subscriber = relay.Subscriber();
  Peer producer = relay.Producer();
  std::string wire;
  for (const std::size_t size : {3 * kMiB, kMiB, 3 * kMiB, kMiB - 10}) {
    netstring::Append(wire, std::string(size, static_cast<char>('a' + size % 7)));
    netstring::Append(wire, "between");
  }
  std::size_t fed = 0;
  while (fed < wire.size()) {
    fed += relay.Feed(producer, std::string_view(wire).substr(fed, 200'000));
    relay.Receive(subscriber);
  }
  CHECK((relay.Receive(subscriber) == wire));
}

// Producers are read into the log itself, where the one's words must not overwrite the other's.
TEST_CASE("relaying: all forms of an event, cut anywhere, from two producers") {
  const auto seed = GENERATE(range(1U, 9U));
  CAPTURE(seed);
  std::mt19937 random(seed);
  Config config;
  config.netstring_format = seed % 4 != 0;
  config.slow_subscriber.policy = SlowPolicy::kBlock;
  RelayOnLoop relay(config);
  Peer subscriber = relay.Subscriber();

  struct Source {
    Peer peer;
    std::string wire;
    std::size_t fed = 0;
    std::vector<std::string> events;  // that it asks for
  };
  const auto most = [&]() -> std::size_t {
    switch (random() % 16) {
      case 0:
        return 200'000;
      case 1:
        return 20'000;
      default:
        return 200;
    }
  };
  std::vector<Source> sources;
  for (const char name : {'A', 'B'}) {
    Source source{relay.Producer(), {}, 0, {}};
    while (source.wire.size() < 3 * kMiB) {
      // Its name appears at the start of its events only, so that raw ones can be told apart.
      std::string event(1 + random() % most(), static_cast<char>('a' + random() % 26));
      event[0] = name;
      switch (random() % 7) {
        case 6:
          for (std::size_t more = random() % 20; more != 0; --more) {
            source.wire += EncodeList({"relay", event});
            source.events.push_back(event);
            event.back() = static_cast<char>('a' + more);
            event[0] = name;
          }
          [[fallthrough]];
        case 0:
          source.wire += EncodeList({"relay", event});
          break;
        case 1:
          source.wire += " \n" + std::string(random() % 5, '0') + netstring::Encode(event);
          break;
        case 2:
          source.wire += "0:," + EncodeList({"multicast", "nobody", "tag"});
          [[fallthrough]];
        default:
          netstring::Append(source.wire, event);
      }
      source.events.push_back(event);
    }
    sources.push_back(std::move(source));
  }

  const auto left = [&] {
    return std::any_of(sources.begin(), sources.end(),
                       [](const Source& source) { return source.fed < source.wire.size(); });
  };
  while (left()) {
    for (Source& source : sources) {
      const std::string_view piece =
          std::string_view(source.wire).substr(source.fed, 1 + random() % (2 * most()));
      source.fed += source.peer.Write(piece);
    }
    if (random() % 4 != 0) relay.Pump();
    if (random() % 8 == 0) relay.Receive(subscriber);
    for (Source& source : sources) relay.Receive(source.peer);
  }
  relay.Receive(subscriber);

  std::string_view rest = subscriber.received;
  std::vector<std::size_t> heard(sources.size());
  while (!rest.empty()) {
    const std::size_t header = config.netstring_format ? rest.find(':') + 1 : 0;
    REQUIRE(header < rest.size());
    const std::size_t which = rest[header] == 'A' ? 0 : 1;
    REQUIRE(heard[which] < sources[which].events.size());
    const std::string& event = sources[which].events[heard[which]++];
    const std::string wire = config.netstring_format ? netstring::Encode(event) : event;
    REQUIRE((rest.substr(0, wire.size()) == wire));
    rest.remove_prefix(wire.size());
  }
  CHECK(heard[0] == sources[0].events.size());
  CHECK(heard[1] == sources[1].events.size());
}

TEST_CASE("relaying: raw format") {
  Config config;
  config.netstring_format = false;
  RelayOnLoop relay(config);
  Peer subscriber = relay.Subscriber();
  Peer producer = relay.Producer();
  relay.Feed(producer, "5:hello,1: ," + EncodeList({"relay", "world"}) + "02:!\n,");
  CHECK(relay.Receive(subscriber) == "hello world!\n");
  // Uplink: what is read is a message, whatever it looks like.
  subscriber.Write("99:no frame");
  relay.Pump();
  CHECK(relay.counters.messages.received == 1);
  CHECK(relay.counters.messages.bytes == 11);
  CHECK(relay.hub.live() == 1);
}

TEST_CASE("relaying: subscribers' messages are counted and dropped") {
  RelayOnLoop relay;
  Peer subscriber = relay.Subscriber();
  Peer other = relay.Subscriber();
  subscriber.Write("5:hello, 0:,\n3:he");
  relay.Pump();
  CHECK(relay.counters.messages.received == 1);
  subscriber.Write("y,");
  CHECK(relay.Receive(other).empty());
  CHECK(relay.counters.messages.received == 2);
  CHECK(relay.counters.messages.bytes == 8);
  CHECK(relay.counters.messages.dropped_no_hook == 2);
  CHECK(relay.counters.events.relayed == 0);
  CHECK(relay.hub.live() == 2);
}

TEST_CASE("relaying: frames stay whole through short writes") {
  const auto seed = GENERATE(range(1U, 5U));
  CAPTURE(seed);
  std::mt19937 random(seed);
  Config config;
  config.send_buffer = 4096;
  config.slow_subscriber = {100 * kKiB, SlowPolicy::kBlock, std::chrono::seconds(30)};
  RelayOnLoop relay(config, seed % 2 == 0 ? Family::kUnix : Family::kTcp);
  std::vector<Peer> subscribers;
  for (int i = 0; i < 4; ++i) subscribers.push_back(relay.Subscriber());
  Peer producer = relay.Producer();

  std::string wire;
  while (wire.size() < 2 * kMiB) {
    const std::size_t size = 1 + random() % (random() % 4 == 0 ? 65536 : 300);
    netstring::Append(wire, std::string(size, static_cast<char>(random())));
  }
  const auto all_received = [&] {
    bool all = true;
    for (Peer& subscriber : subscribers) {
      if (random() % 3 == 0) subscriber.Read(1 + random() % 50'000);
      all = all && subscriber.received.size() >= wire.size();
    }
    return all;
  };
  std::size_t fed = 0;
  CHECK(relay.PumpUntil([&] {
    fed += producer.Write(std::string_view(wire).substr(fed, random() % 100'000));
    return all_received();
  }));
  for (Peer& subscriber : subscribers) CHECK((relay.Receive(subscriber) == wire));
  CHECK(relay.counters.loop.short_writes > 0);
  CHECK(relay.counters.deliveries.dropped.total() == 0);
  CHECK(relay.hub.log().segments() == 0);
}

}  // namespace evrelay
