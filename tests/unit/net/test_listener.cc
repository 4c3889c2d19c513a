#include <algorithm>
#include <deque>
#include <functional>

#include "event/before_wait.h"
#include "net/listener.h"
#include "net/socket.h"
#include "unit/net/net_test.h"

namespace evrelay {
namespace {

// Keeps what it is given.
class Recorder final : public Listener::Handler {
 public:
  void OnAccept(UniqueFd fd, const SocketAddress& peer) noexcept override {
    fds.push_back(std::move(fd));
    peers.push_back(peer);
    if (on_accept) on_accept();
  }
  void OnAcceptShed() noexcept override { ++shed; }

  std::deque<UniqueFd> fds;
  std::vector<SocketAddress> peers;
  int shed = 0;
  std::function<void()> on_accept;
};

UniqueFd ConnectTo(const Listener& listener) {
  std::string error;
  const std::optional<BindAddress> address = ParseBindAddress(listener.name(), error);
  REQUIRE(address);
  UniqueFd fd = address->is_unix() ? ConnectUnix(address->unix_path, error)
                                   : ConnectTcp(address->host, address->port, error);
  INFO(error);
  REQUIRE(fd);
  return fd;
}

std::vector<UniqueFd> ConnectMany(const Listener& listener, int count) {
  std::vector<UniqueFd> fds;
  for (int i = 0; i < count; ++i) fds.push_back(ConnectTo(listener));
  return fds;
}

// Runs the loop until Break, for kDeadline at most. False: the deadline came first.
class Deadline {
 public:
  explicit Deadline(Loop& loop)
      : loop_(loop), timer_(loop, TimerEvent::To<&Deadline::OnTime>(this)) {}
  bool Run(std::chrono::milliseconds after = kDeadline) {
    late_ = false;
    timer_.Schedule(after);
    loop_.Run();
    timer_.Cancel();
    return !late_;
  }

 private:
  void OnTime() noexcept {
    late_ = true;
    loop_.Break();
  }
  Loop& loop_;
  TimerEvent timer_;
  bool late_ = false;
};

class Turns {
 public:
  explicit Turns(Loop& loop) : before_wait_(loop, BeforeWait::To<&Turns::OnTurn>(this)) {}
  int count = 0;
  std::function<void()> on_turn;

 private:
  void OnTurn() noexcept {
    ++count;
    if (on_turn) on_turn();
  }
  BeforeWait before_wait_;
};

}  // namespace

TEST_CASE("port 0 binds a free port and the listener tells which") {
  Loop loop;
  Recorder recorder;
  Listener listener(loop, OneListener("127.0.0.1"), recorder);
  std::string error;
  const std::optional<BindAddress> address = ParseBindAddress(listener.name(), error);
  REQUIRE(address);
  CHECK(address->host == "127.0.0.1");
  CHECK(address->port != 0);
}

TEST_CASE("a listening socket is non-blocking and close-on-exec") {
  const UniqueFd fd = OneListener("127.0.0.1");
  CHECK(NonBlocking(fd.get()));
  CHECK(CloseOnExec(fd.get()));
  CHECK(GetOption(fd.get(), SOL_SOCKET, SO_ACCEPTCONN) == 1);
  CHECK(GetOption(fd.get(), SOL_SOCKET, SO_REUSEADDR) == 1);
}

TEST_CASE("a connection arrives with its peer's address") {
  Loop loop;
  Recorder recorder;
  Listener listener(loop, OneListener("127.0.0.1"), recorder);
  const UniqueFd client = ConnectTo(listener);
  loop.RunUntilIdle();
  REQUIRE(recorder.fds.size() == 1);
  CHECK(recorder.peers[0] == LocalAddress(client.get()));
  CHECK(recorder.peers[0].host() == "127.0.0.1");
  CHECK(NonBlocking(recorder.fds[0].get()));
  CHECK(CloseOnExec(recorder.fds[0].get()));
  CHECK(send(recorder.fds[0].get(), "x", 1, 0) == 1);
  char byte = 0;
  CHECK(recv(client.get(), &byte, 1, 0) == 1);
  CHECK(byte == 'x');
}

TEST_CASE("IPv6 works like IPv4 and takes no IPv4") {
  if (!HasIpv6()) {
    WARN("skipped: this machine has no IPv6 loopback");
    return;
  }
  Loop loop;
  Recorder recorder;
  UniqueFd fd = OneListener("::1");
  CHECK(GetOption(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY) == 1);
  Listener listener(loop, std::move(fd), recorder);
  CHECK(listener.name().starts_with("[::1]:"));
  const UniqueFd client = ConnectTo(listener);
  loop.RunUntilIdle();
  REQUIRE(recorder.fds.size() == 1);
  CHECK(recorder.peers[0] == LocalAddress(client.get()));
  CHECK(recorder.peers[0].host() == "::1");
}

TEST_CASE("a name is bound at each of its addresses once") {
  const std::vector<UniqueFd> fds = OpenTcpListeners(BindAddress{"several.test", 0, {}});
  REQUIRE(fds.size() == 2);
  CHECK(LocalAddress(fds[0].get()).host() == "127.0.0.1");
  CHECK(LocalAddress(fds[1].get()).host() == "127.0.0.2");
}

TEST_CASE("a name with addresses of both families is bound in both") {
  if (!HasIpv6()) {
    WARN("skipped: this machine has no IPv6 loopback");
    return;
  }
  const std::vector<UniqueFd> fds = OpenTcpListeners(BindAddress{"both.test", 0, {}});
  REQUIRE(fds.size() == 2);
  CHECK(LocalAddress(fds[0].get()).host() == "127.0.0.1");
  CHECK(LocalAddress(fds[1].get()).host() == "::1");
}

TEST_CASE("an IPv6 address that the machine lacks is left out with a warning") {
  LoggedLines logged;
  const std::vector<UniqueFd> fds = OpenTcpListeners(BindAddress{"lacking.test", 0, {}});
  REQUIRE(fds.size() == 1);
  CHECK(LocalAddress(fds[0].get()).host() == "127.0.0.1");
  const std::vector<std::string> lines = logged.Take();
  REQUIRE(lines.size() == 1);
  INFO(lines[0]);
  CHECK(lines[0].find(" warn net: lacking.test:0: bind [2001:db8::1]:0: ") != std::string::npos);
}

TEST_CASE("a name with no address of this machine is refused") {
  try {
    OpenTcpListeners(BindAddress{"absent.test", 0, {}});
    FAIL("opened");
  } catch (const std::system_error& error) {
    INFO(error.what());
    CHECK(std::string(error.what()).find("[2001:db8::1]:0: ") != std::string::npos);
  }
}

TEST_CASE("an IPv4 address of another machine is refused though the name has others") {
  CHECK_THROWS_AS(OpenTcpListeners(BindAddress{"foreign.test", 0, {}}), std::system_error);
}

TEST_CASE("a name that does not resolve is refused by its name") {
  try {
    OpenTcpListeners(BindAddress{"unknown.test", 8448, {}});
    FAIL("opened");
  } catch (const std::runtime_error& error) {
    CHECK(std::string(error.what()).starts_with("resolve unknown.test: "));
  }
}

TEST_CASE("a port in use is refused as such, by its address") {
  const UniqueFd first = OneListener("127.0.0.1");
  const SocketAddress address = LocalAddress(first.get());
  try {
    OpenTcpListeners(BindAddress{"127.0.0.1", address.port(), {}});
    FAIL("opened twice");
  } catch (const AddressInUse& error) {
    CHECK(error.what() == "bind " + address.ToString() + ": Address already in use");
    CHECK(error.code() == std::errc::address_in_use);
  }
}

TEST_CASE("an address without a listener can be bound again at once") {
  UniqueFd first = OneListener("127.0.0.1");
  const SocketAddress address = LocalAddress(first.get());
  std::string error;
  const UniqueFd client = ConnectTcp("127.0.0.1", address.port(), error);
  REQUIRE(client);
  UniqueFd server(accept4(first.get(), nullptr, nullptr, SOCK_CLOEXEC));
  REQUIRE(server);
  // Closed first here, the connection lingers in this side's TIME_WAIT.
  server.Close();
  REQUIRE(SeesEnd(client.get()));
  first.Close();
  CHECK(OpenTcpListeners(BindAddress{"127.0.0.1", address.port(), {}}).size() == 1);
}

TEST_CASE("all that wait are accepted, in order") {
  Loop loop;
  Recorder recorder;
  Listener listener(loop, OneListener("127.0.0.1"), recorder);
  const std::vector<UniqueFd> clients = ConnectMany(listener, 50);
  loop.RunUntilIdle();
  REQUIRE(recorder.peers.size() == clients.size());
  for (std::size_t i = 0; i < clients.size(); ++i) {
    CHECK(recorder.peers[i] == LocalAddress(clients[i].get()));
  }
}

TEST_CASE("one turn accepts 1024 connections at most") {
  constexpr int kClients = 1500;
  rlimit limit;
  REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  if (limit.rlim_max < kClients + 64) {
    WARN("skipped: too few files may be opened here");
    return;
  }
  limit.rlim_cur = limit.rlim_max;
  REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  const TempDirectory directory;
  Loop loop;
  Recorder recorder;
  Listener listener(loop, ForeignListener(directory.File("s"), kListenBacklog), recorder);
  recorder.on_accept = [&] { recorder.fds.clear(); };
  // As many as the kernel lets wait.
  std::vector<UniqueFd> clients;
  const sockaddr_un address = UnixSockaddr(directory.File("s"));
  while (clients.size() < kClients) {
    UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    REQUIRE(fd);
    if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) break;
    clients.push_back(std::move(fd));
  }
  if (clients.size() < 1100) {
    WARN("skipped: net.core.somaxconn is too small here");
    return;
  }
  Turns turns(loop);
  std::size_t before = 0;
  std::size_t most = 0;
  turns.on_turn = [&] {
    most = std::max(most, recorder.peers.size() - before);
    before = recorder.peers.size();
  };
  loop.RunUntilIdle();
  CHECK(recorder.peers.size() == clients.size());
  CHECK(most == 1024);
}

TEST_CASE("a socket that was handed over blocking does not block the loop") {
  const TempDirectory directory;
  UniqueFd fd = ForeignListener(directory.File("s"));
  REQUIRE_FALSE(NonBlocking(fd.get()));
  Loop loop;
  Recorder recorder;
  Listener listener(loop, std::move(fd), recorder);
  const UniqueFd client = ConnectTo(listener);
  loop.RunUntilIdle();
  REQUIRE(recorder.fds.size() == 1);
  CHECK(NonBlocking(recorder.fds[0].get()));
}

TEST_CASE("a Unix listener is called by its path, its peers unix") {
  const TempDirectory directory;
  Loop loop;
  Recorder recorder;
  Listener listener(loop, ForeignListener(directory.File("s")), recorder);
  CHECK(listener.name() == "unix:" + directory.File("s"));
  const UniqueFd client = ConnectTo(listener);
  loop.RunUntilIdle();
  REQUIRE(recorder.peers.size() == 1);
  CHECK(recorder.peers[0].ToString() == "unix");
}

TEST_CASE("a listener may be given its name") {
  Loop loop;
  Recorder recorder;
  Listener listener(loop, OneListener("127.0.0.1"), recorder, "unix:/run/x.sock");
  CHECK(listener.name() == "unix:/run/x.sock");
}

TEST_CASE("a descriptor that is no socket is refused") {
  Loop loop;
  Recorder recorder;
  CHECK_THROWS_AS(Listener(loop, UniqueFd(open("/dev/null", O_RDONLY | O_CLOEXEC)), recorder),
                  std::system_error);
}

TEST_CASE("after Stop nobody is accepted and the socket is closed") {
  Loop loop;
  Recorder recorder;
  Listener listener(loop, OneListener("127.0.0.1"), recorder);
  const UniqueFd waiting = ConnectTo(listener);
  listener.Stop();
  listener.Stop();
  loop.RunUntilIdle();
  CHECK(recorder.fds.empty());
  CHECK(SeesEnd(waiting.get()));
  std::string error;
  const std::optional<BindAddress> address = ParseBindAddress(listener.name(), error);
  CHECK_FALSE(ConnectTcp(address->host, address->port, error));
}

TEST_CASE("a handler may stop the listener between two connections") {
  Loop loop;
  Recorder recorder;
  Listener listener(loop, OneListener("127.0.0.1"), recorder);
  recorder.on_accept = [&] { listener.Stop(); };
  const std::vector<UniqueFd> clients = ConnectMany(listener, 2);
  loop.RunUntilIdle();
  CHECK(recorder.fds.size() == 1);
  CHECK(SeesNothing(clients[0].get()));
  CHECK(SeesEnd(clients[1].get()));
}

TEST_CASE("without a free descriptor every waiting peer is closed at once") {
  LoggedLines logged;
  Loop loop;
  Recorder recorder;
  Listener listener(loop, OneListener("127.0.0.1"), recorder);
  loop.RunUntilIdle();  // opens the backend's own descriptors
  const std::vector<UniqueFd> surplus = ConnectMany(listener, 20);
  {
    const AcceptLimit full(LimitFor(0));
    // Comes to an end: the loop does not spin.
    loop.RunUntilIdle();
  }
  CHECK(recorder.fds.empty());
  CHECK(recorder.shed == 20);
  for (const UniqueFd& fd : surplus) CHECK(SeesEnd(fd.get()));
  const std::vector<std::string> lines = logged.Take();
  REQUIRE(lines.size() == 1);
  INFO(lines[0]);
  CHECK(lines[0].find(" warn net: accept on " + listener.name() + ": Too many open files;") !=
        std::string::npos);
}

TEST_CASE("as many peers are kept as there are descriptors for") {
  LoggedLines logged;
  Loop loop;
  Recorder recorder;
  Listener listener(loop, OneListener("127.0.0.1"), recorder);
  loop.RunUntilIdle();
  const std::vector<UniqueFd> clients = ConnectMany(listener, 10);
  {
    const AcceptLimit full(LimitFor(3));
    loop.RunUntilIdle();
  }
  REQUIRE(recorder.fds.size() == 3);
  CHECK(recorder.shed == 7);
  for (std::size_t i = 0; i < clients.size(); ++i) {
    CHECK((i < 3 ? SeesNothing(clients[i].get()) : SeesEnd(clients[i].get())));
  }
}

TEST_CASE("using the last descriptor sheds nobody and does not pause") {
  Loop loop;
  Recorder recorder;
  Listener listener(loop, OneListener("127.0.0.1"), recorder);
  loop.RunUntilIdle();
  const std::vector<UniqueFd> clients = ConnectMany(listener, 3);
  {
    const AcceptLimit full(LimitFor(3));
    loop.RunUntilIdle();
  }
  CHECK(recorder.fds.size() == 3);
  CHECK(recorder.shed == 0);
  const UniqueFd next = ConnectTo(listener);
  loop.RunUntilIdle();
  CHECK(recorder.fds.size() == 4);
}

TEST_CASE("after shedding the listener rests, then accepts again within a second") {
  LoggedLines logged;
  Loop loop;
  Recorder recorder;
  Listener listener(loop, OneListener("127.0.0.1"), recorder);
  loop.RunUntilIdle();
  const UniqueFd surplus = ConnectTo(listener);
  const auto begin = Loop::Now();
  {
    const AcceptLimit full(LimitFor(0));
    loop.RunUntilIdle();
  }
  REQUIRE(recorder.shed == 1);
  const UniqueFd client = ConnectTo(listener);
  recorder.on_accept = [&] { loop.Break(); };
  Deadline deadline(loop);
  REQUIRE(deadline.Run());
  const auto took = Loop::Now() - begin;
  CHECK(recorder.fds.size() == 1);
  CHECK(recorder.shed == 1);
  CHECK(took >= std::chrono::milliseconds(95));
  CHECK(took < std::chrono::seconds(1));
}

TEST_CASE("where even the spare descriptor does not help the loop does not spin") {
  LoggedLines logged;
  Loop loop;
  Recorder recorder;
  Listener listener(loop, OneListener("127.0.0.1"), recorder);
  Deadline deadline(loop);
  loop.RunUntilIdle();
  const std::vector<UniqueFd> clients = ConnectMany(listener, 5);
  Turns turns(loop);
  {
    const AcceptLimit nothing(0);
    CHECK_FALSE(deadline.Run(std::chrono::milliseconds(450)));
  }
  // Four or five rests of a few turns each; spinning would take thousands.
  CHECK(turns.count >= 4);
  CHECK(turns.count <= 30);
  CHECK(recorder.fds.empty());
  CHECK(recorder.shed == 0);
  for (const UniqueFd& fd : clients) CHECK(SeesNothing(fd.get()));
  const std::vector<std::string> lines = logged.Take();
  REQUIRE(lines.size() == 1);
  CHECK(lines[0].find(": Too many open files;") != std::string::npos);

  recorder.on_accept = [&] {
    if (recorder.fds.size() == clients.size()) loop.Break();
  };
  CHECK(deadline.Run());
}

TEST_CASE("a spare descriptor that was lost is there again for the next shortage") {
  LoggedLines logged;
  Loop loop;
  Recorder recorder;
  Listener listener(loop, OneListener("127.0.0.1"), recorder);
  Deadline deadline(loop);
  loop.RunUntilIdle();
  const UniqueFd first = ConnectTo(listener);
  {
    const AcceptLimit nothing(0);
    loop.RunUntilIdle();
  }
  recorder.on_accept = [&] { loop.Break(); };
  REQUIRE(deadline.Run());
  recorder.on_accept = nullptr;
  const UniqueFd surplus = ConnectTo(listener);
  {
    const AcceptLimit full(LimitFor(0));
    loop.RunUntilIdle();
  }
  CHECK(recorder.fds.size() == 1);
  CHECK(recorder.shed == 1);
  CHECK(SeesEnd(surplus.get()));
}

TEST_CASE("Stop ends a rest") {
  LoggedLines logged;
  Loop loop;
  Recorder recorder;
  Listener listener(loop, OneListener("127.0.0.1"), recorder);
  loop.RunUntilIdle();
  const UniqueFd surplus = ConnectTo(listener);
  {
    const AcceptLimit full(LimitFor(0));
    loop.RunUntilIdle();
  }
  REQUIRE(recorder.shed == 1);
  listener.Stop();
  // With no timer left the loop has nothing to run for and ends by itself.
  loop.Run();
  CHECK(recorder.fds.empty());
}

TEST_CASE("a listener that is paused in the middle accepts no more until it goes on") {
  Loop loop;
  Recorder recorder;
  Listener listener(loop, OneListener("127.0.0.1"), recorder);
  recorder.on_accept = [&] {
    if (recorder.fds.size() % 3 == 0) listener.SetPaused(true);
  };
  const std::vector<UniqueFd> clients = ConnectMany(listener, 8);
  loop.RunUntilIdle();
  CHECK(recorder.fds.size() == 3);
  loop.RunUntilIdle();
  CHECK(recorder.fds.size() == 3);
  listener.Accept();
  CHECK(recorder.fds.size() == 3);
  listener.SetPaused(false);
  loop.RunUntilIdle();
  CHECK(recorder.fds.size() == 6);
  // At once, without the loop.
  listener.SetPaused(false);
  listener.Accept();
  CHECK(recorder.fds.size() == 8);
  loop.RunUntilIdle();
  CHECK(recorder.fds.size() == 8);
  CHECK(recorder.shed == 0);
}

}  // namespace evrelay
