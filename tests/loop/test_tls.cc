// Subscribers over TLS, beside plain ones. The listeners are Unix sockets, so that all that is sent
// has arrived.

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "evrelay/netstring.h"
#include "loop/relay_on_loop.h"
#include "support/catch.h"
#include "support/certificates.h"
#include "support/clock.h"
#include "support/tls_client.h"

namespace evrelay {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kMaxLag = 64 * kKiB;

// Entry 0 is plain, entry 1 speaks TLS.
Config Both(Authority& authority, const TlsConfig& tls, Config config = {}) {
  config.bind_addr = {{"unix:" + authority.Path("plain.sock"), {}, {}},
                      {"unix:" + authority.Path("tls.sock"), {}, tls}};
  return config;
}

Config SoonFull(SlowPolicy policy = SlowPolicy::kDisconnect) {
  Config config;
  config.send_buffer = 4096;
  config.slow_subscriber = {kMaxLag, policy, 10s};
  return config;
}

// A subscriber that speaks TLS.
class TlsPeer {
 public:
  TlsPeer(RelayOnLoop& relay, SslContext context = ClientContext())
      : relay_(relay),
        context_(std::move(context)),
        client_(context_.get()),
        peer_(relay.Knock(1)) {
    client_.Hear({});
  }

  // To the end of its handshake and into the relay.
  void ComeIn() {
    const std::uint64_t before = relay_.counters.tls.accepted;
    for (int i = 0; i < 10 && relay_.counters.tls.accepted == before; ++i) Exchange();
    REQUIRE(relay_.counters.tls.accepted == before + 1);
    REQUIRE(client_.shaken);
  }

  // Says what it has to say, lets the relay turn, hears at most `most` bytes. False: of those there
  // were none.
  bool Exchange(std::size_t most = SIZE_MAX) {
    SayAll();
    relay_.Pump();
    return Hear(most);
  }
  void SayAll() {
    const std::string said = client_.Say();
    REQUIRE(peer_.Write(said) == said.size());
  }
  bool Hear(std::size_t most = SIZE_MAX) {
    if (!peer_.Read(most)) return false;
    client_.Hear(peer_.received);
    peer_.received.clear();
    return true;
  }
  // All that comes.
  const std::string& Receive() {
    while (Exchange()) {
    }
    return client_.heard;
  }
  void Write(std::string_view plain) {
    client_.Write(plain);
    SayAll();
  }
  void EndWriting() {
    client_.session.End();
    SayAll();
  }

  TlsClient& client() { return client_; }
  Peer& peer() { return peer_; }
  Peer::End end() const { return peer_.end; }
  const std::string& heard() const { return client_.heard; }

 private:
  RelayOnLoop& relay_;
  const SslContext context_;
  TlsClient client_;
  Peer peer_;
};

// Frames whose payloads are numbers from `first` on; some are longer than that.
std::string Frames(std::size_t count, std::size_t first, std::mt19937& random) {
  std::string wire;
  for (std::size_t i = 0; i < count; ++i) {
    std::string payload = std::to_string(first + i);
    if (random() % 20 == 0) payload.append(random() % 2000, ',');
    netstring::Append(wire, payload);
  }
  return wire;
}

std::vector<std::string> Decoded(std::string_view wire) {
  const netstring::Limits limits{.data = UINT32_MAX};
  std::vector<std::string> frames;
  while (!wire.empty()) {
    const netstring::Decoded frame = netstring::Decode(wire, limits);
    REQUIRE(frame.status == netstring::Status::kFrame);
    frames.emplace_back(frame.payload);
    wire.remove_prefix(frame.consumed);
  }
  return frames;
}

std::uint64_t Failed(RelayOnLoop& relay, TlsFailure failure) {
  return relay.counters.tls.failed[failure];
}

}  // namespace

TEST_CASE("tls: subscribers get the same as those without, and are heard") {
  Authority authority;
  RelayOnLoop relay(Both(authority, authority.Listener()));
  Peer plain = relay.Subscriber();
  TlsPeer one(relay);
  TlsPeer other(relay);
  one.ComeIn();
  other.ComeIn();
  CHECK(relay.hub.live() == 3);
  Peer producer = relay.Producer();
  const std::string wire = Numbered(3000, 100);
  std::string_view rest = wire;
  while (!rest.empty()) {
    rest.remove_prefix(relay.Feed(producer, rest.substr(0, 10'000)));
    relay.Receive(plain);
    one.Receive();
    other.Receive();
  }
  CHECK((relay.Receive(plain) == wire));
  CHECK((one.Receive() == wire));
  CHECK((other.Receive() == wire));
  one.Write("5:hello,3:");
  other.Write("3:one,");
  one.Write("two,");
  relay.Pump();
  CHECK(relay.counters.messages.received == 3);
  CHECK(relay.counters.tls.handshaking == 0);
}

TEST_CASE("tls: one is no subscriber before its handshake is done") {
  Authority authority;
  RelayOnLoop relay(Both(authority, authority.Listener()));
  Peer producer = relay.Producer();
  TlsPeer peer(relay);
  peer.Exchange();  // our Finished has come, its own has not gone
  CHECK(relay.counters.tls.handshaking == 1);
  CHECK(relay.counters.subscribers.accepted == 0);
  CHECK(relay.hub.connections() == 0);
  relay.Feed(producer, "3:one,");
  CHECK(relay.counters.deliveries.due == 0);
  peer.ComeIn();
  CHECK(relay.counters.tls.handshaking == 0);
  CHECK(relay.counters.subscribers.accepted == 1);
  relay.Feed(producer, "3:two,");
  CHECK(peer.Receive() == "3:two,");
}

TEST_CASE("tls: what comes together with the end of the handshake is heard") {
  Authority authority;
  RelayOnLoop relay(Both(authority, authority.Listener()));
  TlsPeer peer(relay);
  peer.Exchange();
  REQUIRE(peer.client().shaken);
  peer.client().Write("5:hello,");

  SECTION("and then nothing") {
    peer.ComeIn();
    relay.Pump();
    CHECK(relay.counters.messages.received == 1);
    CHECK(relay.hub.live() == 1);
  }
  SECTION("and its end") {
    peer.client().session.End();
    peer.SayAll();
    relay.Pump();
    CHECK(relay.counters.messages.received == 1);
    CHECK(relay.Closed(CloseReason::kEof) == 1);
    peer.Receive();
    CHECK(peer.client().ended);
  }
}

TEST_CASE("tls: a handshake has 5 s") {
  Authority authority;
  RelayOnLoop relay(Both(authority, authority.Listener()));
  Peer silent = relay.Knock(1);
  relay.Pump();
  AdvanceClock(3s);
  TlsPeer slow(relay);
  slow.Exchange();
  Peer half = relay.Knock(1);
  half.Write("\x16");
  relay.Pump();
  CHECK(relay.counters.tls.handshaking == 3);
  AdvanceClock(1900ms);
  relay.Pump();
  CHECK(relay.counters.tls.handshaking == 3);
  AdvanceClock(200ms);
  relay.Pump();
  CHECK(relay.counters.tls.handshaking == 2);
  CHECK(Failed(relay, TlsFailure::kTimeout) == 1);
  silent.Read();
  CHECK(silent.end == Peer::End::kEof);

  slow.ComeIn();
  AdvanceClock(3s);
  relay.Pump();
  CHECK(Failed(relay, TlsFailure::kTimeout) == 2);
  CHECK(relay.counters.tls.failed.total() == 2);
  CHECK(relay.hub.live() == 1);

  // Later ones have their time, too.
  Peer last = relay.Knock(1);
  relay.Pump();
  AdvanceClock(5100ms);
  relay.Pump();
  CHECK(Failed(relay, TlsFailure::kTimeout) == 3);
  CHECK(relay.counters.tls.handshaking == 0);
}

TEST_CASE("tls: those in their handshake have places of max_clients") {
  Authority authority;
  Config config = Both(authority, authority.Listener());
  config.max_clients = 2;
  RelayOnLoop relay(config);
  Peer plain = relay.Subscriber();
  auto first = std::make_unique<TlsPeer>(relay);
  first->Exchange();
  Peer second = relay.Knock(1);
  Peer third = relay.Subscriber();
  relay.Pump();
  CHECK(relay.counters.subscribers.refused[RefuseReason::kFull] == 2);
  first->ComeIn();
  CHECK(relay.hub.live() == 2);
  first.reset();
  relay.Pump();
  TlsPeer next(relay);
  next.ComeIn();
}

TEST_CASE("tls: a drain lets nobody in") {
  Authority authority;
  RelayOnLoop relay(Both(authority, authority.Listener()));
  TlsPeer inside(relay);
  inside.ComeIn();
  TlsPeer shaking(relay);
  shaking.Exchange();
  relay.Drain();
  CHECK(relay.counters.tls.handshaking == 0);
  CHECK(relay.counters.tls.failed.total() == 0);
  shaking.Hear();
  CHECK(shaking.end() != Peer::End::kNone);
  inside.Receive();
  CHECK(inside.client().ended);
  CHECK(inside.end() == Peer::End::kEof);
  inside.peer().Close();
  relay.Pump();
  CHECK(relay.hub.places() == 0);
}

TEST_CASE("tls: who is not let in is counted by name, and is none of the hub's") {
  Authority authority;
  Authority stranger("somebody else");
  RelayOnLoop relay(Both(authority, authority.MutualListener()));
  const auto knock = [&](SslContext context) {
    TlsPeer peer(relay, std::move(context));
    peer.Receive();
    CHECK(peer.client().failed);
    CHECK(peer.end() != Peer::End::kNone);
  };
  knock(ClientContext());
  CHECK(Failed(relay, TlsFailure::kNoCertificate) == 1);
  knock(ClientContext(stranger.Sign({"desk"})));
  CHECK(Failed(relay, TlsFailure::kUnknownCa) == 1);
  knock(ClientContext(authority.Sign({"desk", {}, -3, -1})));
  CHECK(Failed(relay, TlsFailure::kExpired) == 1);
  Peer plain = relay.Knock(1);
  plain.Write("5:hello,");
  relay.Receive(plain);
  CHECK(plain.end != Peer::End::kNone);
  CHECK(Failed(relay, TlsFailure::kProtocol) == 1);
  {
    TlsPeer peer(relay, ClientContext(authority.Sign({"desk"})));
    peer.Exchange();
  }
  relay.Pump();
  CHECK(relay.counters.tls.failed.total() == 5);
  CHECK(Failed(relay, TlsFailure::kClosed) == 1);
  CHECK(relay.counters.subscribers.accepted == 0);

  TlsPeer peer(relay, ClientContext(authority.Sign({"desk-1"})));
  peer.ComeIn();
  const Connection* connection = relay.hub.FirstFrom(0);
  REQUIRE(connection != nullptr);
  CHECK(connection->PeerName() == "desk-1");
}

TEST_CASE("tls: policy disconnect closes a stalled subscriber; nobody else notices") {
  Authority authority;
  RelayOnLoop relay(Both(authority, authority.Listener(), SoonFull()));
  TlsPeer stalled(relay);
  stalled.ComeIn();
  TlsPeer reading(relay);
  reading.ComeIn();
  Peer plain = relay.Subscriber();
  Peer producer = relay.Producer();
  std::mt19937 random(1);
  std::string all;
  std::uint64_t largest_lag = 0;
  for (int round = 0; round < 100; ++round) {
    const std::string wire = Numbered(10, 1 + random() % 1000);
    REQUIRE(relay.Feed(producer, wire) == wire.size());
    largest_lag = std::max(largest_lag, relay.hub.MaxLag());
    relay.Receive(plain);
    reading.Receive();
    all += wire;
  }
  CHECK(largest_lag < kMaxLag);
  CHECK((plain.received == all));
  CHECK((reading.heard() == all));
  CHECK(relay.Closed(CloseReason::kSlowSubscriber) == 1);
  CHECK(relay.Dropped(DropReason::kSlowSubscriber) > 0);
  CHECK(relay.Dropped(DropReason::kSlowSubscriber) == relay.counters.deliveries.dropped.total());
  CHECK(relay.hub.live() == 2);
  CHECK(relay.hub.log().segments() == 0);
  stalled.Receive();
  CHECK_FALSE(stalled.client().ended);  // what it has got is not all, and it can tell
  CHECK((stalled.heard() == all.substr(0, stalled.heard().size())));
}

TEST_CASE("tls: policy skip never tears a frame, wherever the socket was full") {
  const auto seed = GENERATE(range(0U, 10U));
  CAPTURE(seed);
  std::mt19937 random(seed);
  Authority authority;
  RelayOnLoop relay(Both(authority, authority.Listener(), SoonFull(SlowPolicy::kSkip)));
  TlsPeer slow(relay);
  slow.ComeIn();
  Peer producer = relay.Producer();
  std::size_t events = 0;
  for (int round = 0; round < 100; ++round) {
    const std::string wire = Frames(500, events, random);
    events += 500;
    REQUIRE(relay.Feed(producer, wire) == wire.size());
    if (random() % 3 == 0) slow.Exchange(random() % 20'000);
  }
  slow.Receive();
  CHECK(relay.hub.live() == 1);
  const std::uint64_t skipped = relay.Dropped(DropReason::kSkipped);
  CHECK(skipped == relay.counters.deliveries.dropped.total());
  CHECK(skipped > 0);
  // Whole frames, in their order, and none is lost unseen.
  const std::vector<std::string> got = Decoded(slow.heard());
  CHECK(got.size() + skipped == events);
  std::size_t next = 0;
  for (const std::string& frame : got) {
    const std::size_t number = std::stoul(frame);
    if (number < next) FAIL("not in order");
    next = number + 1;
  }
  CHECK(next == events);
}

TEST_CASE("tls: policy skip never tears an event that has no frame") {
  const auto seed = GENERATE(range(0U, 5U));
  CAPTURE(seed);
  std::mt19937 random(seed);
  Authority authority;
  Config config = Both(authority, authority.Listener(), SoonFull(SlowPolicy::kSkip));
  config.netstring_format = false;
  RelayOnLoop relay(config);
  TlsPeer slow(relay);
  slow.ComeIn();
  Peer producer = relay.Producer();
  for (int round = 0; round < 100; ++round) {
    std::string wire;
    for (int i = 0; i < 4000; ++i) netstring::Append(wire, "(.)");
    REQUIRE(relay.Feed(producer, wire) == wire.size());
    if (random() % 3 == 0) slow.Exchange(random() % 20'000);
  }
  slow.Receive();
  const std::uint64_t skipped = relay.Dropped(DropReason::kSkipped);
  CHECK(skipped > 0);
  CHECK(slow.heard().size() + 3 * skipped == std::size_t{3} * 4000 * 100);
  for (std::size_t at = 0; at < slow.heard().size(); at += 3) {
    if (slow.heard().compare(at, 3, "(.)") != 0) FAIL("torn at " << at);
  }
}

TEST_CASE("tls: policy block holds producers back, and releases them") {
  Authority authority;
  RelayOnLoop relay(Both(authority, authority.Listener(), SoonFull(SlowPolicy::kBlock)));
  TlsPeer slow(relay);
  slow.ComeIn();
  Peer producer = relay.Producer();
  const std::string wire = Numbered(4000, 1000);
  std::size_t fed = relay.Feed(producer, wire);
  CHECK(fed < wire.size());
  CHECK(relay.hub.holding());
  CHECK(relay.hub.MaxLag() <= kMaxLag + ProducerPort::kTurnIntake);
  while (fed < wire.size()) {
    REQUIRE(slow.Exchange());
    fed += relay.Feed(producer, std::string_view(wire).substr(fed));
  }
  CHECK((slow.Receive() == wire));
  CHECK_FALSE(relay.hub.holding());
  CHECK(relay.counters.deliveries.dropped.total() == 0);
}

TEST_CASE("tls: policy block closes one that takes nothing, not one that takes a little") {
  Authority authority;
  RelayOnLoop relay(Both(authority, authority.Listener(), SoonFull(SlowPolicy::kBlock)));
  TlsPeer slow(relay);
  slow.ComeIn();
  Peer producer = relay.Producer();
  const std::string wire = Numbered(1000, 1000);
  relay.Feed(producer, wire);
  REQUIRE(relay.hub.holding());
  // Less altogether than is encrypted at a time, so that no more plaintext counts as sent.
  const std::uint64_t lag = relay.hub.MaxLag();
  for (int i = 0; i < 5; ++i) {
    AdvanceClock(9s);
    relay.Pump();
    // As much as the kernel needs to ask for more.
    const std::uint64_t sends = relay.counters.loop.sends;
    while (relay.counters.loop.sends == sends) {
      REQUIRE(slow.Hear(1000));
      relay.Pump();
    }
    REQUIRE(relay.hub.MaxLag() == lag);
    REQUIRE(relay.hub.live() == 1);
  }
  AdvanceClock(10100ms);
  relay.Pump();
  CHECK(relay.Closed(CloseReason::kStalled) == 1);
}

TEST_CASE("tls: who ends its side gets what was due, then our end") {
  Authority authority;
  Config config = Both(authority, authority.Listener());
  config.send_buffer = 4096;
  RelayOnLoop relay(config);
  Peer producer = relay.Producer();
  // Some of these fill the socket just so that our end finds no place.
  for (std::size_t size = 1; size < 20'000; size += 40) {
    CAPTURE(size);
    TlsPeer peer(relay);
    peer.ComeIn();
    const std::string wire = Numbered(1, size);
    relay.Feed(producer, wire);
    peer.EndWriting();
    relay.Pump();
    REQUIRE((peer.Receive() == wire));
    REQUIRE(peer.client().ended);
    REQUIRE(peer.end() == Peer::End::kEof);
    REQUIRE(relay.hub.connections() == 0);
  }
  CHECK(relay.Closed(CloseReason::kEof) == relay.counters.tls.accepted);
}

TEST_CASE("tls: certificates are read again, for those who come from then on") {
  Authority authority;
  Authority newer("newer");
  RelayOnLoop relay(Both(authority, authority.MutualListener()));
  TlsPeer old(relay, ClientContext(authority.Sign({"old"})));
  old.ComeIn();
  Config next = relay.config;
  next.bind_addr[1].tls = newer.MutualListener();

  SECTION("good ones") {
    relay.subscribers.SetRules(relay.subscribers.RulesOf(next));
    TlsPeer refused(relay, ClientContext(authority.Sign({"old"})));
    refused.Receive();
    CHECK(Failed(relay, TlsFailure::kUnknownCa) == 1);
    TlsPeer other(relay, ClientContext(newer.Sign({"new"})));
    other.ComeIn();
  }
  SECTION("bad ones are an error, and nothing has changed") {
    next.bind_addr[1].tls->client_ca = authority.Path("missing.pem");
    std::string error;
    try {
      relay.subscribers.RulesOf(next);
    } catch (const std::runtime_error& thrown) {
      error = thrown.what();
    }
    CHECK(error == "bind_addr " + next.bind_addr[1].addr + ": tls: client_ca: " +
                       authority.Path("missing.pem") + ": No such file or directory");
    TlsPeer other(relay, ClientContext(authority.Sign({"another"})));
    other.ComeIn();
  }
  SECTION("when listeners differ, all stays until a restart") {
    next.bind_addr.push_back({"127.0.0.1:1", {}, {}});
    CHECK_FALSE(SubscriberPort::SameListeners(relay.config, next));
    const std::string cert = relay.config.bind_addr[1].tls->cert;
    const std::string key = relay.config.bind_addr[1].tls->key;
    const Authority::Files renewed = authority.Sign({"relay", {}, -3, -1});
    std::rename(renewed.cert.c_str(), cert.c_str());
    std::rename(renewed.key.c_str(), key.c_str());
    CHECK(relay.subscribers.Warnings().empty());
    relay.subscribers.SetRules(relay.subscribers.RulesOf(next));
    CHECK(relay.subscribers.Warnings().empty());
    TlsPeer other(relay, ClientContext(authority.Sign({"another"})));
    other.ComeIn();
  }
  Peer producer = relay.Producer();
  relay.Feed(producer, "3:one,");
  CHECK(old.Receive() == "3:one,");
}

TEST_CASE("tls: which listeners are the same") {
  const TlsConfig tls{"cert", "key", {}, {}};
  Config now;
  now.bind_addr = {{"127.0.0.1:1", {}, {}}, {"127.0.0.1:2", {}, tls}};
  Config next = now;
  CHECK(SubscriberPort::SameListeners(now, next));
  next.bind_addr[0].allow.emplace_back();
  next.bind_addr[1].tls->cert = "other";
  CHECK(SubscriberPort::SameListeners(now, next));
  SECTION("not in another order") { std::swap(next.bind_addr[0], next.bind_addr[1]); }
  SECTION("not with one less") { next.bind_addr.pop_back(); }
  SECTION("not with another address") { next.bind_addr[0].addr = "127.0.0.1:3"; }
  SECTION("not with TLS where there was none") { next.bind_addr[0].tls = tls; }
  SECTION("not without TLS where there was") { next.bind_addr[1].tls.reset(); }
  CHECK_FALSE(SubscriberPort::SameListeners(now, next));
}

}  // namespace evrelay
