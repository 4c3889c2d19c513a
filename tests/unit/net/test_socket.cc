#include <netinet/tcp.h>
#include <sys/time.h>

#include <string>

#include "net/socket.h"
#include "unit/net/net_test.h"

namespace evrelay {
namespace {

UniqueFd TcpSocket() {
  UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(fd);
  return fd;
}

}  // namespace

TEST_CASE("SetNoDelay turns Nagle's algorithm off") {
  const UniqueFd fd = TcpSocket();
  SetNoDelay(fd.get());
  CHECK(GetOption(fd.get(), IPPROTO_TCP, TCP_NODELAY) == 1);
}

TEST_CASE("SetKeepAlive probes after 15 s, every 5 s, three times") {
  const UniqueFd fd = TcpSocket();
  SetKeepAlive(fd.get());
  CHECK(GetOption(fd.get(), SOL_SOCKET, SO_KEEPALIVE) == 1);
  CHECK(GetOption(fd.get(), IPPROTO_TCP, TCP_KEEPIDLE) == 15);
  CHECK(GetOption(fd.get(), IPPROTO_TCP, TCP_KEEPINTVL) == 5);
  CHECK(GetOption(fd.get(), IPPROTO_TCP, TCP_KEEPCNT) == 3);
}

TEST_CASE("SetSendBuffer sets what the kernel then doubles") {
  const UniqueFd fd = TcpSocket();
  SetSendBuffer(fd.get(), 64 * 1024);
  CHECK(GetOption(fd.get(), SOL_SOCKET, SO_SNDBUF) == 2 * 64 * 1024);
}

TEST_CASE("a send buffer past every limit is the largest one, not the smallest") {
  const UniqueFd fd = TcpSocket();
  SetSendBuffer(fd.get(), UINT32_MAX);
  CHECK(GetOption(fd.get(), SOL_SOCKET, SO_SNDBUF) > 64 * 1024);
}

TEST_CASE("SetNonBlocking keeps the other flags and refuses what is not open") {
  const UniqueFd fd = TcpSocket();
  REQUIRE(fcntl(fd.get(), F_SETFL, O_APPEND) == 0);
  SetNonBlocking(fd.get());
  CHECK(NonBlocking(fd.get()));
  CHECK((fcntl(fd.get(), F_GETFL) & O_APPEND) != 0);
  CHECK_THROWS_AS(SetNonBlocking(-1), std::system_error);
}

TEST_CASE("ConnectTcp gives a blocking socket without time limits") {
  const UniqueFd listening = OneListener("127.0.0.1");
  std::string error;
  const UniqueFd fd = ConnectTcp("127.0.0.1", LocalAddress(listening.get()).port(), error);
  REQUIRE(fd);
  CHECK(error.empty());
  CHECK_FALSE(NonBlocking(fd.get()));
  CHECK(CloseOnExec(fd.get()));
  timeval limit{1, 1};
  socklen_t size = sizeof limit;
  REQUIRE(getsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, &size) == 0);
  CHECK(limit.tv_sec == 0);
  CHECK(limit.tv_usec == 0);
}

TEST_CASE("ConnectTcp tells which address refused") {
  UniqueFd listening = OneListener("127.0.0.1");
  const SocketAddress address = LocalAddress(listening.get());
  listening.Close();
  std::string error;
  CHECK_FALSE(ConnectTcp("127.0.0.1", address.port(), error));
  CHECK(error == "connect " + address.ToString() + ": Connection refused");
}

TEST_CASE("ConnectTcp tries all addresses of a name") {
  // Of several.test 127.0.0.1 comes first, where nobody listens.
  const UniqueFd listening = OneListener("127.0.0.2");
  std::string error;
  const UniqueFd fd = ConnectTcp("several.test", LocalAddress(listening.get()).port(), error);
  INFO(error);
  CHECK(fd);
}

TEST_CASE("ConnectTcp tells that a name does not resolve") {
  std::string error;
  CHECK_FALSE(ConnectTcp("unknown.test", 8448, error));
  CHECK(error.starts_with("resolve unknown.test: "));
}

TEST_CASE("ConnectTcp speaks IPv6") {
  if (!HasIpv6()) {
    WARN("skipped: this machine has no IPv6 loopback");
    return;
  }
  const UniqueFd listening = OneListener("::1");
  std::string error;
  CHECK(ConnectTcp("::1", LocalAddress(listening.get()).port(), error));
}

TEST_CASE("ConnectUnix gives a blocking socket") {
  const TempDirectory directory;
  const UniqueFd listening = ForeignListener(directory.File("s"));
  std::string error;
  const UniqueFd fd = ConnectUnix(directory.File("s"), error);
  REQUIRE(fd);
  CHECK_FALSE(NonBlocking(fd.get()));
  CHECK(CloseOnExec(fd.get()));
}

TEST_CASE("ConnectUnix tells what is wrong with the path") {
  const TempDirectory directory;
  std::string error;
  CHECK_FALSE(ConnectUnix(directory.File("none"), error));
  CHECK(error == "connect " + directory.File("none") + ": No such file or directory");
  LeaveDeadSocket(directory.File("dead"));
  CHECK_FALSE(ConnectUnix(directory.File("dead"), error));
  CHECK(error == "connect " + directory.File("dead") + ": Connection refused");
  CHECK_FALSE(ConnectUnix("/" + std::string(kMaxUnixPath, 'x'), error));
  CHECK(error.find("1 to 107 bytes") != error.npos);
  CHECK_FALSE(ConnectUnix("", error));
}

}  // namespace evrelay
