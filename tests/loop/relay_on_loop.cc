#include "loop/relay_on_loop.h"

#include <netinet/in.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "evrelay/netstring.h"
#include "support/catch.h"

namespace evrelay {
namespace {

std::vector<UniqueFd> One(UniqueFd fd) {
  std::vector<UniqueFd> fds;
  fds.push_back(std::move(fd));
  return fds;
}

}  // namespace

std::size_t Peer::Write(std::string_view bytes) {
  std::size_t written = 0;
  while (written < bytes.size()) {
    const ssize_t n = send(fd_.get(), bytes.data() + written, bytes.size() - written,
                           MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0) break;
    written += static_cast<std::size_t>(n);
  }
  return written;
}

bool Peer::Read(std::size_t max) {
  std::array<char, 64 * 1024> buffer;
  bool some = false;
  while (max > 0 && end == End::kNone) {
    const ssize_t n = recv(fd_.get(), buffer.data(), std::min(max, buffer.size()), MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) break;
    some = true;
    if (n < 0) {
      end = End::kReset;
    } else if (n == 0) {
      end = End::kEof;
    } else {
      received.append(buffer.data(), static_cast<std::size_t>(n));
      max -= static_cast<std::size_t>(n);
    }
  }
  return some;
}

void Peer::CloseWithReset() {
  const linger now{.l_onoff = 1, .l_linger = 0};
  REQUIRE(setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now) == 0);
  fd_.Close();
}

// Listens on 127.0.0.1, or under a name of its own that needs no file, which the kernel chooses.
UniqueFd RelayOnLoop::Listen(Family family, Address& address) {
  sockaddr_in tcp{};
  tcp.sin_family = AF_INET;
  tcp.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::memcpy(&address.storage, &tcp, sizeof tcp);
  address.size = sizeof tcp;
  if (family == Family::kUnix) {
    address.storage.ss_family = AF_UNIX;
    address.size = sizeof(sa_family_t);
  }
  UniqueFd fd(socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  REQUIRE(fd);
  auto* generic = reinterpret_cast<sockaddr*>(&address.storage);
  REQUIRE(bind(fd.get(), generic, address.size) == 0);
  REQUIRE(listen(fd.get(), 1000) == 0);
  address.size = sizeof address.storage;
  REQUIRE(getsockname(fd.get(), generic, &address.size) == 0);
  return fd;
}

RelayOnLoop::Address RelayOnLoop::UnixAddress(const ListenConfig& listen) {
  const sockaddr_un named = UnixSockaddr(listen.addr.substr(std::strlen("unix:")));
  Address address;
  std::memcpy(&address.storage, &named, sizeof named);
  address.size = sizeof named;
  return address;
}

std::vector<UniqueFd> RelayOnLoop::ListenForSubscribers(Family family) {
  if (!config.bind_addr[0].addr.starts_with("unix:")) {
    return One(Listen(family, subscriber_address_));
  }
  subscriber_address_ = UnixAddress(config.bind_addr[0]);
  return {};
}

Peer RelayOnLoop::Connect(const Address& address) {
  UniqueFd fd(socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(fd);
  const auto* generic = reinterpret_cast<const sockaddr*>(&address.storage);
  REQUIRE(connect(fd.get(), generic, address.size) == 0);
  return Peer(std::move(fd));
}

RelayOnLoop::RelayOnLoop(const Config& c, Family family, std::vector<std::unique_ptr<Hook>> hooks)
    : config(c),
      hub(loop, config, counters),
      commands(loop),
      workers(commands, hub.suspended(), config.workers),
      producers(loop, hub, config, counters, Listen(Family::kUnix, producer_address_)),
      subscribers(loop, hub, workers, config, counters, peers, ListenForSubscribers(family)),
      turn_(loop, BeforeWait::To<&RelayOnLoop::OnTurn>(this)) {
  workers.SetHooks(std::move(hooks));
}

RelayOnLoop::~RelayOnLoop() {
  commands.Close();
  workers.Stop(std::chrono::seconds(10));
}

void RelayOnLoop::OnTurn() noexcept {
  commands.Take(Hub::kTurnIntake, [this](const Command& command) { return hub.Apply(command); });
  const std::uint64_t before = counters.events.bytes;
  producers.Intake();
  largest_intake = std::max(largest_intake, counters.events.bytes - before);
  hub.Flush();
  producers.SetHeld(hub.holding());
  producers.SendAnswers();
}

Peer RelayOnLoop::Subscriber() {
  const std::uint64_t before = counters.subscribers.accepted + counters.subscribers.refused.total();
  Peer peer = Connect(subscriber_address_);
  REQUIRE(PumpUntil([&] {
    return counters.subscribers.accepted + counters.subscribers.refused.total() > before;
  }));
  return peer;
}

Peer RelayOnLoop::Knock(std::size_t entry) { return Connect(UnixAddress(config.bind_addr[entry])); }

Peer RelayOnLoop::Producer() {
  Peer peer = Connect(producer_address_);
  Pump();
  return peer;
}

void RelayOnLoop::Pump() {
  loop.RunUntilIdle();
  CheckBooks();
}

bool RelayOnLoop::PumpUntil(const std::function<bool()>& condition) {
  // What has been sent over loopback TCP may take the kernel a moment.
  const auto deadline = Loop::Now() + std::chrono::seconds(10);
  do {
    Pump();
    if (condition()) return true;
  } while (Loop::Now() < deadline);
  return false;
}

const std::string& RelayOnLoop::Receive(Peer& peer) {
  do {
    Pump();
  } while (peer.Read());
  return peer.received;
}

std::size_t RelayOnLoop::Feed(Peer& peer, std::string_view bytes) {
  std::size_t written = 0;
  while (written < bytes.size()) {
    const std::size_t n = peer.Write(bytes.substr(written));
    written += n;
    Pump();
    if (n == 0) break;
  }
  return written;
}

void RelayOnLoop::Drain() {
  subscribers.Stop();
  producers.Drain();
  hub.Drain();
}

void RelayOnLoop::CheckBooks() {
  const auto& deliveries = counters.deliveries;
  const bool balanced =
      deliveries.due == deliveries.written + hub.Queued() + deliveries.dropped.total();
  const auto& messages = counters.messages;
  const bool handled = messages.received == counters.hook.runs[HookEventKind::kMessageReceived] +
                                                messages.dropped_no_hook +
                                                messages.dropped_after_close + messages.unhandled;
  const auto& async = counters.async;
  const bool answered = async.suspended == async.resumed + async.expired + async.drained +
                                               async.abandoned + hub.suspended().size();
  if (!balanced || !handled || !answered) FAIL("the books do not balance");
}

std::string Numbered(std::size_t count, std::size_t size, char mark) {
  std::string wire;
  for (std::size_t i = 0; i < count; ++i) {
    std::string payload = mark + std::to_string(i);
    if (payload.size() < size) payload.resize(size, '.');
    netstring::Append(wire, payload);
  }
  return wire;
}

std::size_t WholeFrames(std::string_view wire, std::size_t& used) {
  const netstring::Limits limits{.data = UINT32_MAX};
  std::size_t frames = 0;
  used = 0;
  while (used < wire.size()) {
    const netstring::Decoded frame = netstring::Decode(wire.substr(used), limits);
    REQUIRE(frame.status != netstring::Status::kError);
    if (frame.status == netstring::Status::kMore) break;
    used += frame.consumed;
    ++frames;
  }
  return frames;
}

}  // namespace evrelay
