#include <cerrno>
#include <chrono>
#include <string>

#include "net/dead_peer.h"
#include "net/socket.h"
#include "support/vanish.h"
#include "unit/net/net_test.h"

namespace evrelay {
namespace {

using namespace std::chrono_literals;

// A connection's two ends.
struct Pair {
  UniqueFd ours;
  UniqueFd peer;
};

Pair Connected() {
  const UniqueFd listening = OneListener("127.0.0.1");
  const SocketAddress address = LocalAddress(listening.get());
  std::string error;
  Pair pair;
  pair.peer = ConnectTcp(address.host(), address.port(), error);
  INFO(error);
  REQUIRE(pair.peer);
  pair.ours = UniqueFd(accept4(listening.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  REQUIRE(pair.ours);
  SetNoDelay(pair.ours.get());
  SetKeepAlive(pair.ours.get());
  return pair;
}

void SetReceiveBuffer(int fd, int bytes) {
  REQUIRE(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes) == 0);
}

// Sends in pieces of `size` until no more is taken.
void Fill(const Pair& pair, std::size_t size) {
  const std::string piece(size, 'x');
  while (send(pair.ours.get(), piece.data(), size, MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {
  }
}

tcp_info InfoOf(const Pair& pair) {
  tcp_info info{};
  socklen_t size = sizeof info;
  REQUIRE(getsockopt(pair.ours.get(), IPPROTO_TCP, TCP_INFO, &info, &size) == 0);
  return info;
}

// The fields that count.
tcp_info Info(unsigned unacked, unsigned resent, unsigned probes, unsigned last_ack,
              unsigned last_data, unsigned window = 65536) {
  tcp_info info{};
  info.tcpi_unacked = unacked;
  info.tcpi_retransmits = static_cast<std::uint8_t>(resent);
  info.tcpi_probes = static_cast<std::uint8_t>(probes);
  info.tcpi_last_ack_recv = last_ack;
  info.tcpi_last_data_recv = last_data;
  info.tcpi_snd_wnd = window;
  return info;
}

}  // namespace

TEST_CASE("dead peer: the errors of a peer that does not answer") {
  for (const int error : {ETIMEDOUT, EHOSTUNREACH, ENETUNREACH}) CHECK(IsDeadPeerError(error));
  for (const int error : {0, ECONNRESET, EPIPE, ECONNABORTED, EAGAIN, ENOBUFS, EBADF}) {
    CHECK_FALSE(IsDeadPeerError(error));
  }
}

TEST_CASE("dead peer: what TCP_INFO says of it") {
  struct Row {
    const char* what;
    tcp_info info;
    bool dead;
  };
  // The figures are as loopback gave them, to the last millisecond or two.
  const Row rows[] = {
      {"in flight, 30 s after the last word", Info(1, 7, 0, 30'000, 30'000), true},
      {"in flight, just before", Info(1, 7, 0, 29'999, 29'999), false},
      {"a closed window, and six questions without an answer", Info(0, 0, 6, 30'060, 30'792, 0),
       true},
      {"likewise, and what had been in flight", Info(3, 0, 3, 31'000, 40'000, 0), true},
      {"it still talks, though it acknowledges nothing new", Info(1, 7, 0, 40'000, 10), false},
      {"it acknowledges, though it never talks", Info(1, 0, 0, 10, 4'000'000), false},
      {"silent for an hour, and only now sent something", Info(1, 0, 0, 3'600'000, 3'600'000),
       false},
      {"likewise, and one packet was lost", Info(1, 1, 0, 3'600'000, 3'600'000), false},
      {"a closed window for 90 s; the last answer is 35 s old", Info(0, 0, 0, 35'328, 90'796),
       false},
      {"a closed window, just asked again", Info(0, 0, 1, 40'012, 150'780), false},
      {"likewise, and an answer was lost", Info(0, 0, 2, 60'000, 150'780), false},
      {"a window that was closed over data in flight", Info(4, 0, 0, 60'000, 150'780, 0), false},
      {"likewise, after a short trouble on the way", Info(4, 4, 0, 60'000, 150'780, 0), false},
      {"nothing is in flight", Info(0, 0, 0, 3'600'000, 3'600'000), false},
  };
  for (const Row& row : rows) {
    INFO(row.what);
    CHECK(IsDeadPeer(row.info, 30s) == row.dead);
  }
}

TEST_CASE("dead peer: real ones are found, and nobody else") {
  // The same as after 30 s, as far as the kernel's first questions go.
  constexpr auto kPatience = 1s;
  const Pair in_flight = Connected();
  const Pair window = Connected();
  const Pair idle = Connected();
  const Pair closed = Connected();
  const Pair closed_small = Connected();
  const Pair reading = Connected();
  // Small packets cost this peer more memory than it has promised, so it takes back its promise
  // when some are in flight.
  SetSendBuffer(closed_small.ours.get(), 65536);
  SetReceiveBuffer(closed_small.peer.get(), 4096);
  Fill(closed_small, 1);
  Fill(closed, 65536);
  Fill(window, 65536);
  for (const Pair* pair : {&in_flight, &window, &idle}) {
    if (!Vanish(pair->peer.get())) return;
  }
  Fill(in_flight, 65536);

  const auto found = [&](const Pair& pair) { return IsDeadPeer(pair.ours.get(), kPatience); };
  const auto deadline = std::chrono::steady_clock::now() + 60s;
  bool all = false;
  while (!all && std::chrono::steady_clock::now() < deadline) {
    all = found(in_flight) && found(window);
    for (const Pair* pair : {&idle, &closed, &closed_small, &reading}) {
      REQUIRE_FALSE(found(*pair));
    }
    // One that reads, and one that is silent but there.
    send(reading.ours.get(), "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    char bytes[1024];
    recv(reading.peer.get(), bytes, sizeof bytes, MSG_DONTWAIT);
    pollfd event{in_flight.ours.get(), POLLIN, 0};
    poll(&event, 1, 20);
  }
  CHECK(all);
  // They had been silent for as long, and had as much to acknowledge.
  for (const Pair* pair : {&closed, &closed_small}) {
    const tcp_info info = InfoOf(*pair);
    CHECK(std::chrono::milliseconds(info.tcpi_last_data_recv) >= kPatience);
    CHECK(info.tcpi_backoff >= 2);
  }
}

TEST_CASE("dead peer: other sockets are never taken for one") {
  int fds[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
  const UniqueFd one(fds[0]);
  const UniqueFd other(fds[1]);
  REQUIRE(send(one.get(), "x", 1, 0) == 1);
  CHECK_FALSE(IsDeadPeer(one.get(), 0s));
  CHECK_FALSE(IsDeadPeer(-1, 0s));
}

}  // namespace evrelay
