#include <arpa/inet.h>
#include <netinet/in.h>

#include <array>
#include <cstring>
#include <initializer_list>
#include <string>

#include "unit/net/net_test.h"

namespace evrelay {
namespace {

// All bits of a byte but one, counted over the whole address.
unsigned char Other(unsigned bit) { return static_cast<unsigned char>(~(0x80U >> bit % 8)); }

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

TEST_CASE("a peer without its port equals all of its address") {
  CHECK(Ipv4("192.0.2.7", 1).WithoutPort() == Ipv4("192.0.2.7", 2).WithoutPort());
  CHECK_FALSE(Ipv4("192.0.2.7", 1).WithoutPort() == Ipv4("192.0.2.8", 1).WithoutPort());
  CHECK(Ipv4("192.0.2.7", 1).WithoutPort().host() == "192.0.2.7");
}

TEST_CASE("a network has the addresses that begin with its bits, whatever the number of them") {
  const bool ipv6 = GENERATE(false, true);
  const unsigned size = ipv6 ? 128 : 32;
  const char* ip = GENERATE_COPY(values<const char*>(
      ipv6 ? std::initializer_list<const char*>{"2001:db8:55aa::1", "::", "a55a::ffff"}
           : std::initializer_list<const char*>{"10.165.90.255", "0.0.0.0", "255.255.255.255"}));
  const SocketAddress inside = ipv6 ? Ipv6(ip, 1) : Ipv4(ip, 1);
  for (unsigned bits = 0; bits <= size; ++bits) {
    Network network{ipv6, static_cast<std::uint8_t>(bits), {}};
    REQUIRE(inet_pton(ipv6 ? AF_INET6 : AF_INET, ip, network.ip.data()) == 1);
    for (unsigned bit = bits; bit < size; ++bit) network.ip[bit / 8] &= Other(bit);
    INFO(ip << "/" << bits);
    CHECK(inside.Within(network));
    CHECK_FALSE((ipv6 ? Ipv4("10.165.90.255", 1) : Ipv6("::", 1)).Within(network));
    CHECK_FALSE(SocketAddress().Within(network));
    // The address with one bit changed: outside if it is a bit of the network.
    for (unsigned bit = 0; bit < size; ++bit) {
      std::array<unsigned char, 16> raw{};
      REQUIRE(inet_pton(ipv6 ? AF_INET6 : AF_INET, ip, raw.data()) == 1);
      raw[bit / 8] ^= static_cast<unsigned char>(~Other(bit));
      char text[INET6_ADDRSTRLEN];
      REQUIRE(inet_ntop(ipv6 ? AF_INET6 : AF_INET, raw.data(), text, sizeof text) != nullptr);
      const SocketAddress changed = ipv6 ? Ipv6(text, 1) : Ipv4(text, 1);
      if (changed.Within(network) != (bit >= bits)) FAIL("bit " << bit << ": " << text);
    }
  }
}

TEST_CASE("an IPv4 peer of a socket for both families is within IPv4 networks") {
  const Network network{false, 24, {192, 0, 2}};
  CHECK(Ipv6("::ffff:192.0.2.7", 1).Within(network));
  CHECK_FALSE(Ipv6("::ffff:192.0.3.7", 1).Within(network));
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
