#include <arpa/inet.h>
#include <netinet/in.h>

#include <cstring>
#include <string>

#include "net/address.h"
#include "support/catch.h"

namespace evrelay {
namespace {

SocketAddress Ipv4(const char* ip, std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  REQUIRE(inet_pton(AF_INET, ip, &address.sin_addr) == 1);
  return SocketAddress::FromSockaddr(reinterpret_cast<sockaddr*>(&address), sizeof address);
}

SocketAddress Ipv6(const char* ip, std::uint16_t port) {
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(port);
  REQUIRE(inet_pton(AF_INET6, ip, &address.sin6_addr) == 1);
  return SocketAddress::FromSockaddr(reinterpret_cast<sockaddr*>(&address), sizeof address);
}

BindAddress Parsed(std::string_view text) {
  INFO(text);
  std::string error;
  const std::optional<BindAddress> address = ParseBindAddress(text, error);
  INFO(error);
  REQUIRE(address);
  CHECK(error.empty());
  return *address;
}

}  // namespace

TEST_CASE("an IPv4 peer is told as host, port and both") {
  const SocketAddress address = Ipv4("192.0.2.7", 4711);
  CHECK(address.host() == "192.0.2.7");
  CHECK(address.port() == 4711);
  CHECK(address.ToString() == "192.0.2.7:4711");
  CHECK_FALSE(address.is_unix());
}

TEST_CASE("an IPv6 peer has brackets only together with its port") {
  const SocketAddress address = Ipv6("2001:db8::a", 4711);
  CHECK(address.host() == "2001:db8::a");
  CHECK(address.ToString() == "[2001:db8::a]:4711");
  CHECK_FALSE(address.is_unix());
}

TEST_CASE("an IPv4 peer of a socket for both families reads as IPv4") {
  const SocketAddress mapped = Ipv6("::ffff:192.0.2.7", 4711);
  CHECK(mapped.host() == "192.0.2.7");
  CHECK(mapped == Ipv4("192.0.2.7", 4711));
}

TEST_CASE("a Unix peer is called unix") {
  sockaddr_un unnamed{};
  unnamed.sun_family = AF_UNIX;
  // The kernel gives a client without a name no more than its family.
  const SocketAddress address =
      SocketAddress::FromSockaddr(reinterpret_cast<sockaddr*>(&unnamed), sizeof(sa_family_t));
  CHECK(address.host() == "unix");
  CHECK(address.port() == 0);
  CHECK(address.ToString() == "unix");
  CHECK(address.is_unix());
}

TEST_CASE("loopback is 127.0.0.0/8 and ::1") {
  CHECK(Ipv4("127.0.0.1", 1).loopback());
  CHECK(Ipv4("127.255.0.9", 1).loopback());
  CHECK(Ipv6("::1", 1).loopback());
  CHECK(Ipv6("::ffff:127.0.0.1", 1).loopback());
  CHECK_FALSE(Ipv4("128.0.0.1", 1).loopback());
  CHECK_FALSE(Ipv4("0.0.0.0", 1).loopback());
  CHECK_FALSE(Ipv6("::", 1).loopback());
  CHECK_FALSE(Ipv6("fe80::1", 1).loopback());
  CHECK_FALSE(SocketAddress().loopback());
}

TEST_CASE("addresses differ by family, address and port") {
  CHECK(Ipv4("127.0.0.1", 1) == Ipv4("127.0.0.1", 1));
  CHECK_FALSE(Ipv4("127.0.0.1", 1) == Ipv4("127.0.0.1", 2));
  CHECK_FALSE(Ipv4("127.0.0.1", 1) == Ipv4("127.0.0.2", 1));
  CHECK_FALSE(Ipv4("0.0.0.0", 0) == Ipv6("::", 0));
}

TEST_CASE("bind_addr takes host and port") {
  CHECK(Parsed("127.0.0.1:8448") == BindAddress{"127.0.0.1", 8448, {}});
  CHECK(Parsed("0.0.0.0:0") == BindAddress{"0.0.0.0", 0, {}});
  CHECK(Parsed("[::1]:65535") == BindAddress{"::1", 65535, {}});
  CHECK(Parsed("[::]:8448") == BindAddress{"::", 8448, {}});
  CHECK(Parsed("[fe80::1%eth0]:8448") == BindAddress{"fe80::1%eth0", 8448, {}});
  CHECK(Parsed("relay-1.example.org:8448") == BindAddress{"relay-1.example.org", 8448, {}});
  CHECK(Parsed("localhost:08448") == BindAddress{"localhost", 8448, {}});
}

TEST_CASE("bind_addr takes the path of a Unix socket") {
  const BindAddress address = Parsed("unix:/run/with:colon/sub.sock");
  CHECK(address == BindAddress{{}, 0, "/run/with:colon/sub.sock"});
  CHECK(address.is_unix());
  CHECK_FALSE(Parsed("127.0.0.1:8448").is_unix());
}

TEST_CASE("a bind address is written as it is read") {
  for (const char* text : {"127.0.0.1:8448", "[::1]:8448", "name:1", "unix:/run/x.sock"}) {
    CHECK(Parsed(text).ToString() == text);
  }
}

TEST_CASE("the path in bind_addr may have 107 bytes and no more") {
  const std::string longest = "/" + std::string(106, 'x');
  CHECK(Parsed("unix:" + longest).unix_path == longest);
  std::string error;
  CHECK_FALSE(ParseBindAddress("unix:" + longest + "x", error));
  CHECK(error.find("107") != error.npos);
  CHECK(error.find("108") != error.npos);
}

TEST_CASE("a bad bind_addr is refused with what would be right") {
  struct Bad {
    const char* text;
    const char* advice;
  };
  const Bad bad = GENERATE(values<Bad>({
      {"", "HOST:PORT"},
      {"127.0.0.1", "HOST:PORT"},
      {"8448", "HOST:PORT"},
      {"[::1]", "HOST:PORT"},
      {"[::1", "HOST:PORT"},
      {"[:1", "HOST:PORT"},
      {"[::1]8448", "HOST:PORT"},
      {"127.0.0.1:", "0 to 65535"},
      {"127.0.0.1:65536", "0 to 65535"},
      {"127.0.0.1:-1", "0 to 65535"},
      {"127.0.0.1:+1", "0 to 65535"},
      {"127.0.0.1:84x", "0 to 65535"},
      {"127.0.0.1: 84", "0 to 65535"},
      {"name:http", "0 to 65535"},
      {":8448", "0.0.0.0:PORT"},
      {"*:8448", "[::]:PORT"},
      {"::1:8448", "brackets"},
      {"2001:db8::1:8448", "brackets"},
      {"[127.0.0.1]:8448", "[::1]:8448"},
      {"[]:8448", "[::1]:8448"},
      {"[::1]]:8448", "[::1]:8448"},
      {"127.0.0.256:8448", "0 to 255"},
      {"127.1:8448", "0 to 255"},
      {"8448:8448", "0 to 255"},
      {"two words:8448", "letters"},
      {"name\n:8448", "letters"},
      {"tcp/host:8448", "letters"},
      {"unix:", "unix:/run"},
      {"unix:relative.sock", "unix:/run"},
      {"unix:/run/", "unix:/run"},
  }));
  INFO(bad.text);
  std::string error;
  CHECK_FALSE(ParseBindAddress(bad.text, error));
  INFO(error);
  CHECK(error.starts_with("\"" + std::string(bad.text) + "\": "));
  CHECK(error.find(bad.advice) != error.npos);
}

TEST_CASE("a NUL in the path of bind_addr is refused") {
  std::string error;
  CHECK_FALSE(ParseBindAddress(std::string_view("unix:/run/a\0b", 13), error));
  CHECK(error.find("unix:/run") != error.npos);
}

TEST_CASE("the address of the longest path holds all of it and a NUL") {
  const std::string longest = "/" + std::string(kMaxUnixPath - 1, 'x');
  const sockaddr_un address = UnixSockaddr(longest);
  CHECK(address.sun_family == AF_UNIX);
  CHECK(strnlen(address.sun_path, sizeof address.sun_path) == kMaxUnixPath);
  CHECK(address.sun_path == longest);
}

}  // namespace evrelay
