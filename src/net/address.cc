#include "net/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cassert>
#include <charconv>
#include <cstring>

namespace evrelay {
namespace {

std::string Quoted(std::string_view text) { return "\"" + std::string(text) + "\""; }

bool IsIpv4(const std::string& text) {
  in_addr ignored;
  return inet_pton(AF_INET, text.c_str(), &ignored) == 1;
}

// With or without a zone, as in "fe80::1%eth0".
bool IsIpv6(const std::string& text) {
  in6_addr ignored;
  return inet_pton(AF_INET6, text.substr(0, text.find('%')).c_str(), &ignored) == 1;
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

bool IsHostNameByte(char c) {
  return IsDigit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '.' ||
         c == '_';
}

bool ParsePort(std::string_view text, std::uint16_t& port) {
  const char* end = text.data() + text.size();
  const auto [stop, status] = std::from_chars(text.data(), end, port);
  return !text.empty() && status == std::errc() && stop == end;
}

std::optional<BindAddress> ParseUnixPath(std::string_view text, std::string_view path,
                                         std::string& error) {
  if (!path.starts_with('/') || path.ends_with('/') || path.find('\0') != path.npos) {
    error = Quoted(text) +
            ": after unix: comes the absolute path of a socket, as in "
            "unix:/run/evrelay/subscriber.sock";
    return std::nullopt;
  }
  if (path.size() > kMaxUnixPath) {
    error = Quoted(text) + ": the path of a Unix socket has at most " +
            std::to_string(kMaxUnixPath) + " bytes, this one has " + std::to_string(path.size());
    return std::nullopt;
  }
  BindAddress address;
  address.unix_path = path;
  return address;
}

}  // namespace

SocketAddress SocketAddress::FromSockaddr(const sockaddr* address, socklen_t size) {
  SocketAddress out;
  if (size >= sizeof(sockaddr_in) && address->sa_family == AF_INET) {
    sockaddr_in in;
    std::memcpy(&in, address, sizeof in);
    out.family_ = AF_INET;
    out.port_ = ntohs(in.sin_port);
    std::memcpy(out.ip_.data(), &in.sin_addr, sizeof in.sin_addr);
  } else if (size >= sizeof(sockaddr_in6) && address->sa_family == AF_INET6) {
    sockaddr_in6 in;
    std::memcpy(&in, address, sizeof in);
    out.port_ = ntohs(in.sin6_port);
    if (IN6_IS_ADDR_V4MAPPED(&in.sin6_addr)) {
      out.family_ = AF_INET;
      std::memcpy(out.ip_.data(), in.sin6_addr.s6_addr + 12, 4);
    } else {
      out.family_ = AF_INET6;
      std::memcpy(out.ip_.data(), &in.sin6_addr, sizeof in.sin6_addr);
    }
  }
  return out;
}

std::string SocketAddress::host() const {
  if (is_unix()) return "unix";
  char text[INET6_ADDRSTRLEN];
  return inet_ntop(family_, ip_.data(), text, sizeof text);
}

std::string SocketAddress::ToString() const {
  if (is_unix()) return "unix";
  return BindAddress{host(), port_, {}}.ToString();
}

bool SocketAddress::loopback() const {
  if (family_ == AF_INET) return ip_[0] == 127;
  if (family_ != AF_INET6) return false;
  return ip_.back() == 1 && std::all_of(ip_.begin(), ip_.end() - 1, [](auto b) { return b == 0; });
}

bool SocketAddress::Within(const Network& network) const {
  if (family_ != (network.ipv6 ? AF_INET6 : AF_INET)) return false;
  const std::size_t bytes = network.bits / 8;
  if (std::memcmp(ip_.data(), network.ip.data(), bytes) != 0) return false;
  const unsigned rest = network.bits % 8;
  return rest == 0 || (ip_[bytes] ^ network.ip[bytes]) >> (8 - rest) == 0;
}

SocketAddress SocketAddress::WithoutPort() const {
  SocketAddress out = *this;
  out.port_ = 0;
  return out;
}

std::string BindAddress::ToString() const {
  if (is_unix()) return "unix:" + unix_path;
  const bool brackets = host.find(':') != host.npos;
  return (brackets ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

std::optional<BindAddress> ParseBindAddress(std::string_view text, std::string& error) {
  const auto fail = [&](const std::string& what) {
    error = Quoted(text) + ": " + what;
    return std::nullopt;
  };
  constexpr std::string_view kUnix = "unix:";
  if (text.starts_with(kUnix)) return ParseUnixPath(text, text.substr(kUnix.size()), error);

  const std::size_t colon = text.rfind(':');
  const bool brackets = text.starts_with('[');
  if (colon == text.npos || (brackets && (colon == 0 || text[colon - 1] != ']'))) {
    return fail("HOST:PORT expected, as in 127.0.0.1:8448, [::1]:8448 or unix:/path");
  }
  BindAddress address;
  if (!ParsePort(text.substr(colon + 1), address.port)) {
    return fail("the port must be a number from 0 to 65535, as in 127.0.0.1:8448");
  }
  address.host = brackets ? text.substr(1, colon - 2) : text.substr(0, colon);
  const std::string& host = address.host;

  if (brackets) {
    if (!IsIpv6(host)) return fail("no IPv6 address between the brackets, as in [::1]:8448");
    return address;
  }
  if (host.empty() || host == "*") {
    return fail("to listen on all addresses say 0.0.0.0:PORT (IPv4) or [::]:PORT (IPv6)");
  }
  if (host.find(':') != host.npos) {
    return fail("an IPv6 address needs brackets, as in [::1]:8448");
  }
  if (!std::all_of(host.begin(), host.end(), IsHostNameByte)) {
    return fail("a host name has letters, digits, dots, dashes and underscores only");
  }
  // The resolver would read "127.1" or "8448" as an address, but never as the one that was meant.
  const bool number =
      std::all_of(host.begin(), host.end(), [](char c) { return IsDigit(c) || c == '.'; });
  if (number && !IsIpv4(host)) {
    return fail("an IPv4 address is four numbers from 0 to 255, as in 127.0.0.1:8448");
  }
  return address;
}

sockaddr_un UnixSockaddr(const std::string& path) {
  assert(!path.empty() && path.size() <= kMaxUnixPath);
  sockaddr_un out{};
  out.sun_family = AF_UNIX;
  path.copy(out.sun_path, kMaxUnixPath);
  return out;
}

}  // namespace evrelay
