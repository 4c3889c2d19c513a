#include "config/check.h"

#include <arpa/inet.h>
#include <sys/un.h>

#include <algorithm>
#include <charconv>
#include <set>
#include <utility>

namespace evrelay {
namespace {

constexpr std::string_view kUnixPrefix = "unix:";
constexpr std::size_t kMaxHostName = 253;                                  // RFC 1035, as text
constexpr std::size_t kMaxSocketPath = sizeof(sockaddr_un::sun_path) - 1;  // and the final NUL
constexpr std::size_t kMaxQuoted = 48;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsControl(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

bool IsPort(std::string_view text) {
  unsigned value = 0;
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  return result.ec == std::errc() && result.ptr == end && value <= 65535;
}

bool IsIpv4(const std::string& host) {
  in_addr address;
  return inet_pton(AF_INET, host.c_str(), &address) == 1;
}

// With or without a zone, as in fe80::1%eth0.
bool IsIpv6(const std::string& host) {
  in6_addr address;
  return inet_pton(AF_INET6, host.substr(0, host.find('%')).c_str(), &address) == 1;
}

bool IsHostName(std::string_view host) {
  return host.size() <= kMaxHostName && std::ranges::all_of(host, [](char c) {
           return IsDigit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
                  c == '_' || c == '.';
         });
}

std::string PortError(std::string_view text, std::string_view port) {
  if (IsPort(port)) return {};
  return Quoted(text) + " has no valid port; give one from 0 (any free port) to 65535";
}

std::string Ipv6Error(std::string_view text) {
  const std::size_t close = text.find(']');
  if (close == std::string_view::npos) {
    return Quoted(text) + R"( has no closing bracket; give an address such as "[::1]:8448")";
  }
  if (!IsIpv6(std::string(text.substr(1, close - 1)))) {
    return Quoted(text) + R"( has no IPv6 address in its brackets; give one such as "[::1]:8448")";
  }
  const std::string_view rest = text.substr(close + 1);
  if (!rest.starts_with(':')) {
    return Quoted(text) + R"( has no port; give an address such as "[::1]:8448")";
  }
  return PortError(text, rest.substr(1));
}

// The path that an empty control.socket stands for; empty when the producer's is not known yet.
std::string ControlSocket(const Config& config) {
  if (!config.control.socket.empty() || config.producer.socket.empty()) {
    return config.control.socket;
  }
  return config.producer.socket.substr(0, config.producer.socket.rfind('/') + 1) + "control.sock";
}

}  // namespace

std::string Quoted(std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::size_t size = std::min(text.size(), kMaxQuoted);
  // Never cut inside a UTF-8 character.
  while (size < text.size() && size > 0 &&
         (static_cast<unsigned char>(text[size]) & 0xc0) == 0x80) {
    --size;
  }
  std::string out = "\"";
  for (const char c : text.substr(0, size)) {
    if (IsControl(c)) {
      const auto byte = static_cast<unsigned char>(c);
      out += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    } else {
      out += c;
    }
  }
  out += size < text.size() ? "...\"" : "\"";
  return out;
}

std::string SocketPathError(std::string_view path) {
  if (path.starts_with(kUnixPrefix)) {
    return Quoted(path) + R"( has a prefix; give the path alone, without "unix:")";
  }
  if (!path.starts_with('/')) {
    return Quoted(path) + " is not an absolute path; give one that starts with /";
  }
  if (path.ends_with('/')) {
    return Quoted(path) + " names a directory; give the path of the socket in it";
  }
  if (path.size() > kMaxSocketPath) {
    return Quoted(path) + " has " + std::to_string(path.size()) +
           " bytes; give a path of at most " + std::to_string(kMaxSocketPath) +
           ", more does not fit the address of a Unix socket";
  }
  if (std::ranges::any_of(path, IsControl)) {
    return Quoted(path) + " has a control character in it; give a path without";
  }
  return {};
}

std::string BindAddressError(std::string_view text) {
  if (text.starts_with(kUnixPrefix)) return SocketPathError(text.substr(kUnixPrefix.size()));
  if (text.starts_with('/')) {
    return Quoted(text) + R"( is a path; give a Unix socket as "unix:/path")";
  }
  if (text.find(',') != std::string_view::npos) {
    return Quoted(text) + " has a comma; give several addresses as a list: [ADDRESS, ADDRESS]";
  }
  if (text.starts_with('[')) return Ipv6Error(text);
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) {
    if (!text.empty() && std::ranges::all_of(text, IsDigit)) {
      return Quoted(text) + " has no host; give an address such as 127.0.0.1:8448";
    }
    return Quoted(text) + " has no port; give an address such as 127.0.0.1:8448";
  }
  const std::string_view host = text.substr(0, colon);
  if (host.find(':') != std::string_view::npos) {
    return Quoted(text) +
           R"( has more than one colon; give an IPv6 address in brackets, such as "[::1]:8448")";
  }
  if (host.empty() || host == "*") {
    return Quoted(text) +
           R"( has no host; give 0.0.0.0 for every IPv4 address, "[::]" for every IPv6 one)";
  }
  if (std::ranges::all_of(host, [](char c) { return IsDigit(c) || c == '.'; })) {
    if (!IsIpv4(std::string(host))) {
      return Quoted(text) + " has no valid IPv4 address; give one such as 127.0.0.1:8448";
    }
  } else if (!IsHostName(host)) {
    return Quoted(text) + " has no valid host name; give an address such as 127.0.0.1:8448";
  }
  return PortError(text, text.substr(colon + 1));
}

std::string ListenerError(const ListenConfig& listener) {
  if (listener.addr.empty()) return "no addr; give an address such as 127.0.0.1:8448";
  if (listener.addr.starts_with(kUnixPrefix) && !listener.allow.empty()) {
    return "allow is for IP addresses, " + Quoted(listener.addr) +
           " has none; leave it out, the directory's mode says who may connect";
  }
  return {};
}

std::vector<std::string> CheckConfig(const Config& config) {
  std::vector<std::string> errors;
  // Every Unix socket needs a path of its own.
  std::vector<std::pair<std::string, std::string>> sockets;  // key, path
  if (!config.producer.socket.empty()) {
    const std::string error = SocketPathError(config.producer.socket);
    if (!error.empty()) errors.push_back("producer.socket: " + error);
    sockets.emplace_back("producer.socket", config.producer.socket);
  }
  if (std::string control = ControlSocket(config); !control.empty()) {
    const std::string error = SocketPathError(control);
    if (!error.empty()) errors.push_back("control.socket: " + error);
    sockets.emplace_back("control.socket", std::move(control));
  }
  std::set<std::string_view> seen;
  for (const auto& [address, allow, tls] : config.bind_addr) {
    const std::string error = BindAddressError(address);
    if (!error.empty()) {
      errors.push_back("bind_addr: " + error);
    } else if (!seen.insert(address).second) {
      errors.push_back("bind_addr: " + Quoted(address) + " is given twice; give it once");
    } else if (address.starts_with(kUnixPrefix)) {
      sockets.emplace_back("bind_addr", address.substr(kUnixPrefix.size()));
    }
  }
  for (std::size_t i = 0; i < sockets.size(); ++i) {
    for (std::size_t k = 0; k < i; ++k) {
      if (sockets[i].second != sockets[k].second) continue;
      errors.push_back(sockets[k].first + " and " + sockets[i].first + " are both " +
                       Quoted(sockets[i].second) + "; give each socket its own path");
    }
  }
  if (!config.event_callback.empty() && config.script.empty()) {
    errors.push_back("event_callback: there is no script with " + Quoted(config.event_callback) +
                     "; give script as well, or leave event_callback out");
  }
  return errors;
}

}  // namespace evrelay
