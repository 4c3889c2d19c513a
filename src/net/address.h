// Where a socket is: SocketAddress is what a connection remembers of its peer, BindAddress one
// entry of the configuration before names are resolved. Plain values; any thread.

#ifndef EVRELAY_NET_ADDRESS_H_
#define EVRELAY_NET_ADDRESS_H_

#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>

#include "config/config.h"

namespace evrelay {

// The longest path that fits into a Unix socket's address together with its final NUL.
inline constexpr std::size_t kMaxUnixPath = sizeof(sockaddr_un::sun_path) - 1;

// An IPv4, IPv6 or Unix peer. Small, as every subscriber carries one. IPv4 peers of a socket that
// serves both families read as IPv4. Unix peers have no name of their own, so all are equal.
class SocketAddress {
 public:
  SocketAddress() = default;  // a Unix peer

  // Families other than these three read as Unix.
  static SocketAddress FromSockaddr(const sockaddr* address, socklen_t size);

  std::string host() const;                     // "127.0.0.1", "::1", "unix"
  std::uint16_t port() const { return port_; }  // 0 for Unix
  std::string ToString() const;                 // "127.0.0.1:4711", "[::1]:4711", "unix"
  bool loopback() const;                        // 127.0.0.0/8 or ::1; Unix is not
  bool is_unix() const { return family_ == AF_UNIX; }
  bool Within(const Network& network) const;
  SocketAddress WithoutPort() const;  // all peers of one address are equal

  friend bool operator==(const SocketAddress&, const SocketAddress&) = default;
  friend bool operator<(const SocketAddress& a, const SocketAddress& b) {
    return std::tie(a.family_, a.port_, a.ip_) < std::tie(b.family_, b.port_, b.ip_);
  }

 private:
  sa_family_t family_ = AF_UNIX;
  std::uint16_t port_ = 0;              // host byte order
  std::array<unsigned char, 16> ip_{};  // network byte order; IPv4 uses the first four
};
static_assert(sizeof(SocketAddress) <= 32);

// Either host (a name or a literal without brackets) and port, or an absolute path.
struct BindAddress {
  std::string host;
  std::uint16_t port = 0;  // 0: a free one, chosen by the kernel
  std::string unix_path;

  bool is_unix() const { return !unix_path.empty(); }
  std::string ToString() const;  // as ParseBindAddress reads it

  friend bool operator==(const BindAddress&, const BindAddress&) = default;
};

// Reads "127.0.0.1:8448", "[::1]:8448", "name:8448" or "unix:/path". Names are not resolved here.
// None: `error` says what is wrong and what would be right.
std::optional<BindAddress> ParseBindAddress(std::string_view text, std::string& error);

// `path` must have 1 to kMaxUnixPath bytes.
sockaddr_un UnixSockaddr(const std::string& path);

}  // namespace evrelay

#endif  // EVRELAY_NET_ADDRESS_H_
