// What the subscriber port bounds: connections of an address, connections in a second, the time
// for a frame; and peers that are gone without a word.

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "loop/relay_on_loop.h"
#include "subscriber/subscriber.h"
#include "support/catch.h"
#include "support/clock.h"
#include "support/vanish.h"

namespace evrelay {
namespace {

using namespace std::chrono_literals;
using Family = RelayOnLoop::Family;

std::uint64_t Refused(const RelayOnLoop& relay, RefuseReason reason) {
  return relay.counters.subscribers.refused[reason];
}

Peer::End EndOf(RelayOnLoop& relay, Peer& peer) {
  relay.PumpUntil([&] {
    peer.Read();
    return peer.end != Peer::End::kNone;
  });
  return peer.end;
}

// Writes, and pumps until a Unix peer has read it, or TCP has delivered it.
void Say(RelayOnLoop& relay, Peer& peer, std::string_view bytes) {
  REQUIRE(peer.Write(bytes) == bytes.size());
  REQUIRE(relay.PumpUntil([&] {
    int unread = 0;
    REQUIRE(ioctl(peer.fd(), SIOCOUTQ, &unread) == 0);
    return unread == 0;
  }));
  relay.Pump();
}

void Advance(RelayOnLoop& relay, std::chrono::milliseconds by) {
  AdvanceClock(by);
  relay.Pump();
}

}  // namespace

// --- max_clients_per_ip ---

TEST_CASE("limits: one address has so many places, until one is given back") {
  Config config;
  config.max_clients_per_ip = 2;
  RelayOnLoop relay(config, Family::kTcp);
  Peer one = relay.Subscriber();
  Peer two = relay.Subscriber();
  Peer three = relay.Subscriber();
  CHECK(EndOf(relay, three) != Peer::End::kNone);
  CHECK(Refused(relay, RefuseReason::kPerIp) == 1);
  CHECK(relay.hub.live() == 2);

  one.Close();
  CHECK(relay.PumpUntil([&] { return relay.hub.live() == 1; }));
  Peer four = relay.Subscriber();
  CHECK(relay.hub.live() == 2);
  CHECK(Refused(relay, RefuseReason::kPerIp) == 1);
}

TEST_CASE("limits: one that is refused for want of places has none of its address") {
  Config config;
  config.max_clients = 1;
  config.max_clients_per_ip = 2;
  RelayOnLoop relay(config, Family::kTcp);
  Peer one = relay.Subscriber();
  for (int i = 0; i < 3; ++i) Peer refused = relay.Subscriber();
  CHECK(Refused(relay, RefuseReason::kFull) == 3);
  CHECK(Refused(relay, RefuseReason::kPerIp) == 0);
  one.Close();
  CHECK(relay.PumpUntil([&] { return relay.hub.places() == 0; }));
  CHECK(relay.peers.addresses() == 0);
}

TEST_CASE("limits: one that is being closed still has its place") {
  Config config;
  config.max_clients_per_ip = 1;
  config.send_buffer = 4096;
  RelayOnLoop relay(config, Family::kTcp);
  Peer closing = relay.Subscriber();
  Peer producer = relay.Producer();
  relay.Feed(producer, Numbered(4000, 1000));
  closing.EndWriting();
  REQUIRE(relay.PumpUntil([&] { return relay.hub.live() == 0; }));
  REQUIRE(relay.hub.connections() == 1);
  Peer refused = relay.Subscriber();
  CHECK(Refused(relay, RefuseReason::kPerIp) == 1);
  CHECK(relay.PumpUntil([&] {
    closing.Read();
    return relay.hub.connections() == 0;
  }));
  Peer next = relay.Subscriber();
  CHECK(relay.hub.live() == 1);
}

TEST_CASE("limits: Unix peers are not counted, and there is no limit by default") {
  Config config;
  config.max_clients_per_ip = 1;
  RelayOnLoop with_limit(config, Family::kUnix);
  RelayOnLoop without({}, Family::kTcp);
  std::deque<Peer> peers;
  for (int i = 0; i < 20; ++i) {
    peers.push_back(with_limit.Subscriber());
    peers.push_back(without.Subscriber());
  }
  CHECK(with_limit.hub.live() == 20);
  CHECK(without.hub.live() == 20);
}

TEST_CASE("limits: a limit that comes with a reload counts those that are there") {
  RelayOnLoop relay({}, Family::kTcp);
  Peer one = relay.Subscriber();
  Peer two = relay.Subscriber();
  relay.config.max_clients_per_ip = 2;
  relay.subscribers.OnReload();
  Peer refused = relay.Subscriber();
  CHECK(Refused(relay, RefuseReason::kPerIp) == 1);
  CHECK(relay.hub.live() == 2);
}

TEST_CASE("limits: connections may outlive their port") {
  std::deque<Peer> peers;
  {
    RelayOnLoop relay({}, Family::kTcp);
    for (int i = 0; i < 3; ++i) peers.push_back(relay.Subscriber());
    // In the list of unfinished frames, and with something to acknowledge.
    Say(relay, peers[0], "5:hel");
    if (!Vanish(peers[1].fd())) return;
    relay.hub.Relay("event");
    relay.Pump();
  }
  for (Peer& peer : peers) {
    while (peer.end == Peer::End::kNone && peer.Read()) {
    }
  }
  CHECK(peers[2].end != Peer::End::kNone);
}

// --- accept_rate ---

TEST_CASE("limits: so many come in a second, the others wait") {
  Config config;
  config.accept_rate = 5;
  RelayOnLoop relay(config, GENERATE(Family::kUnix, Family::kTcp));
  const auto began = Loop::Now();
  const auto most = [&] {
    const std::chrono::duration<double> passed = Loop::Now() - began;
    return static_cast<std::uint64_t>(5 * (1 + passed.count())) + 1;
  };
  std::deque<Peer> peers;
  for (int i = 0; i < 20; ++i) peers.push_back(relay.Knock());
  REQUIRE(relay.PumpUntil([&] { return relay.counters.subscribers.accepted >= 5; }));
  CHECK(relay.counters.subscribers.accepted <= most());
  CHECK(relay.counters.loop.accept_pauses > 0);
  // Each 200 ms one more, as long as anybody waits.
  for (std::uint64_t wanted = 6; wanted <= 20; ++wanted) {
    Advance(relay, 200ms);
    CHECK(relay.counters.subscribers.accepted >= wanted);
    CHECK(relay.counters.subscribers.accepted <= most());
  }
  CHECK(relay.PumpUntil([&] { return relay.counters.subscribers.accepted == 20; }));
  CHECK(relay.counters.subscribers.refused.total() == 0);
  CHECK(relay.hub.live() == 20);
  // Who is in is served while others wait.
  Peer waiting = relay.Knock();
  relay.hub.Relay("hello");
  CHECK(relay.PumpUntil([&] {
    peers[7].Read();
    return peers[7].received == "5:hello,";
  }));
}

TEST_CASE("limits: who is turned away does not use up accept_rate") {
  Config config;
  config.accept_rate = 2;
  config.max_clients_per_ip = 1;
  RelayOnLoop relay(config, Family::kTcp);
  Peer one = relay.Subscriber();
  for (int i = 0; i < 10; ++i) Peer refused = relay.Subscriber();
  CHECK(Refused(relay, RefuseReason::kPerIp) == 10);
  CHECK(relay.counters.loop.accept_pauses == 0);
}

TEST_CASE("limits: another accept_rate holds at once") {
  Config config;
  config.accept_rate = 1;
  RelayOnLoop relay(config);
  std::deque<Peer> peers;
  for (int i = 0; i < 30; ++i) peers.push_back(relay.Knock());
  REQUIRE(relay.PumpUntil([&] { return relay.counters.subscribers.accepted >= 1; }));
  REQUIRE(relay.counters.subscribers.accepted < 30);
  relay.config.accept_rate = 0;
  relay.subscribers.OnReload();
  relay.Pump();
  CHECK(relay.hub.live() == 30);

  relay.config.accept_rate = 1;
  relay.subscribers.OnReload();
  for (int i = 0; i < 3; ++i) peers.push_back(relay.Knock());
  relay.Pump();
  CHECK(relay.hub.live() < 33);
  // A drain ends the wait; nobody is let in any more.
  relay.Drain();
  const std::uint64_t accepted = relay.counters.subscribers.accepted;
  Advance(relay, 10s);
  CHECK(relay.counters.subscribers.accepted == accepted);
}

// --- frame_timeout ---

namespace {

// Long, so that the time which passes by itself does not matter.
Config WithFrameTime() {
  Config config;
  config.frame_timeout = 100s;
  return config;
}

}  // namespace

TEST_CASE("limits: a frame that does not end in time ends its connection, in good order") {
  const auto bad_frame = GENERATE(BadFrame::kClose, BadFrame::kDiscard);
  Config config = WithFrameTime();
  config.bad_frame = bad_frame;
  RelayOnLoop relay(config);
  Peer trickling = relay.Subscriber();
  Peer other = relay.Subscriber();
  Say(relay, trickling, "2:ok,");
  Advance(relay, 600s);
  CHECK(relay.hub.live() == 2);
  // A byte a second does not make it last.
  const std::string frame = "20:xxxxxxxxxx";
  for (std::size_t at = 0; at + 1 < 10; ++at) {
    Say(relay, trickling, frame.substr(at, 1));
    Advance(relay, 10s);
  }
  CHECK(relay.hub.live() == 2);
  relay.hub.Relay("due");
  Advance(relay, 11s);
  CHECK(relay.hub.live() == 1);
  CHECK(relay.Closed(CloseReason::kFrameTimeout) == 1);
  CHECK(relay.counters.messages.received == 1);
  CHECK(EndOf(relay, trickling) == Peer::End::kEof);
  CHECK(trickling.received == "3:due,");
  Advance(relay, 600s);
  CHECK(relay.hub.live() == 1);
  CHECK(relay.Closed(CloseReason::kFrameTimeout) == 1);
}

TEST_CASE("limits: each frame has its own time") {
  RelayOnLoop relay(WithFrameTime());
  Peer peer = relay.Subscriber();
  // The end of one is the beginning of the next, eight times.
  Say(relay, peer, "3:a");
  for (int i = 0; i < 8; ++i) {
    Advance(relay, 60s);
    Say(relay, peer, "bc,3:a");
  }
  CHECK(relay.hub.live() == 1);
  CHECK(relay.counters.messages.received == 8);
  Advance(relay, 60s);
  Say(relay, peer, "bc,");
  Advance(relay, 60s);
  CHECK(relay.hub.live() == 1);
  // An empty frame is one, too.
  Say(relay, peer, "0:");
  Advance(relay, 60s);
  Say(relay, peer, ",0:");
  Advance(relay, 60s);
  CHECK(relay.hub.live() == 1);
  Advance(relay, 41s);
  CHECK(relay.hub.live() == 0);
  CHECK(relay.Closed(CloseReason::kFrameTimeout) == 1);
}

TEST_CASE("limits: white space is no frame") {
  RelayOnLoop relay(WithFrameTime());
  Peer peer = relay.Subscriber();
  Say(relay, peer, " \r\n\t");
  Say(relay, peer, "2:ok,\n");
  Advance(relay, 600s);
  CHECK(relay.hub.live() == 1);
  // It does not begin the frame that follows it.
  Say(relay, peer, "\n\n1");
  Advance(relay, 90s);
  CHECK(relay.hub.live() == 1);
  Advance(relay, 11s);
  CHECK(relay.hub.live() == 0);
}

TEST_CASE("limits: bytes that are discarded begin no frame") {
  Config config = WithFrameTime();
  config.bad_frame = BadFrame::kDiscard;
  RelayOnLoop relay(config);
  Peer peer = relay.Subscriber();
  Say(relay, peer, "5:hel");
  Advance(relay, 50s);
  Say(relay, peer, "lo;");
  CHECK(relay.counters.messages.discarded_bytes == 8);
  Advance(relay, 600s);
  CHECK(relay.hub.live() == 1);
}

TEST_CASE("limits: without netstrings there are no frames") {
  Config config = WithFrameTime();
  config.netstring_format = false;
  RelayOnLoop relay(config);
  Peer peer = relay.Subscriber();
  Say(relay, peer, "5:hel");
  Advance(relay, 600s);
  CHECK(relay.hub.live() == 1);
}

TEST_CASE("limits: those whose time is over are closed, whoever began later stays") {
  RelayOnLoop relay(WithFrameTime());
  std::deque<Peer> peers;
  for (int i = 0; i < 10; ++i) {
    peers.push_back(relay.Subscriber());
    Say(relay, peers.back(), "9:");
    Advance(relay, 5s);
  }
  Say(relay, peers[0], "123456789,");
  Say(relay, peers[3], "123456789,9:");
  Advance(relay, 50s);
  CHECK(relay.hub.live() == 10);
  for (const std::size_t live : {9U, 8U}) {
    Advance(relay, 5s);
    CHECK(relay.hub.live() <= live);
  }
  Advance(relay, 35s);
  CHECK(relay.hub.live() == 2);
  Advance(relay, 15s);
  CHECK(relay.hub.live() == 1);
  CHECK(relay.Closed(CloseReason::kFrameTimeout) == 9);
}

TEST_CASE("limits: what came while the loop was held up came in time") {
  RelayOnLoop relay(WithFrameTime());
  Peer peer = relay.Subscriber();
  Peer late = relay.Subscriber();
  Peer next = relay.Subscriber();
  Say(relay, peer, "5:hel");
  Say(relay, late, "5:hel");
  Say(relay, next, "5:hel");
  REQUIRE(peer.Write("lo,") == 3);
  REQUIRE(late.Write("l") == 1);
  REQUIRE(next.Write("lo,5:") == 5);
  Advance(relay, 600s);
  CHECK(relay.counters.messages.received == 2);
  CHECK(relay.hub.live() == 2);
  CHECK(EndOf(relay, late) == Peer::End::kEof);
  Advance(relay, 90s);
  CHECK(relay.hub.live() == 2);
  Advance(relay, 11s);
  CHECK(relay.hub.live() == 1);
}

TEST_CASE("limits: another frame_timeout holds for frames that have begun") {
  RelayOnLoop relay(WithFrameTime());
  Peer one = relay.Subscriber();
  Say(relay, one, "5:hel");
  Advance(relay, 40s);
  relay.config.frame_timeout = 300s;
  relay.subscribers.OnReload();
  Advance(relay, 200s);
  CHECK(relay.hub.live() == 1);
  relay.config.frame_timeout = 250s;
  relay.subscribers.OnReload();
  Advance(relay, 5s);
  CHECK(relay.hub.live() == 1);
  Advance(relay, 6s);
  CHECK(relay.hub.live() == 0);
}

TEST_CASE("limits: an end, a reset or a close while a frame is unfinished") {
  RelayOnLoop relay(WithFrameTime());
  std::deque<Peer> peers;
  for (int i = 0; i < 3; ++i) {
    peers.push_back(relay.Subscriber());
    Say(relay, peers.back(), "5:hel");
  }
  peers[0].EndWriting();
  peers[1].Close();
  relay.hub.Close(2);
  CHECK(relay.PumpUntil([&] { return relay.hub.live() == 0; }));
  Advance(relay, 600s);
  CHECK(relay.Closed(CloseReason::kTruncated) == 2);
  CHECK(relay.Closed(CloseReason::kAdmin) == 1);
  CHECK(relay.Closed(CloseReason::kFrameTimeout) == 0);
}

// --- peers that are gone without a word ---

namespace {

// A connection that works until it fails with `error`.
class FailingTransport final : public Transport {
 public:
  FailingTransport(UniqueFd fd, int error, bool when_sending)
      : Transport(std::move(fd)), error_(error), when_sending_(when_sending) {}

  Received Receive(char*, std::size_t) noexcept override {
    if (when_sending_) return {Status::kAgain};
    return {Status::kBroken, 0, error_};
  }
  Sent Send(const iovec*, std::size_t) noexcept override {
    Sent sent;
    sent.broken = when_sending_;
    sent.error = error_;
    return sent;
  }
  Ended EndSending() noexcept override { return Ended::kBroken; }

 private:
  const int error_;
  const bool when_sending_;
};

}  // namespace

TEST_CASE("limits: the error of a connection tells a dead peer from a reset") {
  const bool when_sending = GENERATE(false, true);
  struct Row {
    int error;
    bool dead;
  };
  const Row rows[] = {{ETIMEDOUT, true},   {EHOSTUNREACH, true}, {ENETUNREACH, true},
                      {ECONNRESET, false}, {EPIPE, false},       {0, false}};
  RelayOnLoop relay;
  SubscriberContext context{relay.loop,   relay.hub,      relay.workers,
                            relay.config, relay.counters, std::string(Subscriber::kReadSize, '\0')};
  std::uint64_t dead = 0;
  std::uint64_t reset = 0;
  for (const Row& row : rows) {
    int fds[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    const UniqueFd peer(fds[1]);
    relay.hub.Add(std::make_unique<Subscriber>(
        context, std::make_unique<FailingTransport>(UniqueFd(fds[0]), row.error, when_sending),
        SocketAddress(), PeerCounts::Place()));
    relay.Pump();
    REQUIRE(relay.hub.live() == 1);
    relay.hub.Relay("event");
    if (!when_sending) REQUIRE(send(peer.get(), "x", 1, 0) == 1);
    relay.Pump();
    CHECK(relay.hub.live() == 0);
    ++(row.dead ? dead : reset);
    CHECK(relay.Closed(CloseReason::kDeadPeer) == dead);
    CHECK(relay.Closed(CloseReason::kReset) == reset);
    CHECK(relay.Dropped(DropReason::kDeadPeer) == dead);
    CHECK(relay.Dropped(DropReason::kReset) == reset);
  }
}

TEST_CASE("limits: a real peer has something to acknowledge until it has acknowledged it") {
  RelayOnLoop relay({}, Family::kTcp);
  Peer there = relay.Subscriber();
  Peer gone = relay.Subscriber();
  if (!Vanish(gone.fd())) return;
  relay.hub.Relay("event");
  relay.Pump();
  const Connection& first = *relay.hub.FirstFrom(0);
  const Connection& second = *relay.hub.FirstFrom(1);
  CHECK(relay.PumpUntil([&] { return first.Delivered(); }));
  CHECK_FALSE(second.Delivered());
  // It need be gone for longer.
  for (int i = 0; i < 10; ++i) Advance(relay, 10s);
  CHECK_FALSE(second.Unreachable());
  CHECK(relay.hub.live() == 2);
}

}  // namespace evrelay
