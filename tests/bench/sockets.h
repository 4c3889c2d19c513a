// Loopback and Unix sockets for the programs of the benchmark, with the options that evrelay sets
// on its own: whoever is compared sends through the same kind of socket. Throws std::system_error.

#ifndef EVRELAY_TESTS_BENCH_SOCKETS_H_
#define EVRELAY_TESTS_BENCH_SOCKETS_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <system_error>

namespace bench {

// SO_SNDBUF of a subscriber on loopback.
inline constexpr int kSendBuffer = 256 * 1024;

inline int Checked(int result, const char* what) {
  if (result < 0) throw std::system_error(errno, std::system_category(), what);
  return result;
}

inline void SetOption(int fd, int level, int name, int value) {
  Checked(setsockopt(fd, level, name, &value, sizeof value), "setsockopt");
}

inline sockaddr_in Loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

inline sockaddr_un UnixAddress(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) throw std::runtime_error(path + ": too long");
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

template <class Address>
const sockaddr* AsSockaddr(const Address& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

// Listens on a free port of loopback, returned in `port`.
inline int ListenTcp(std::uint16_t& port) {
  const int fd = Checked(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
  sockaddr_in address = Loopback(0);
  Checked(bind(fd, AsSockaddr(address), sizeof address), "bind");
  Checked(listen(fd, 4096), "listen");
  socklen_t size = sizeof address;
  Checked(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), "getsockname");
  port = ntohs(address.sin_port);
  return fd;
}

inline int ListenUnix(const std::string& path) {
  const int fd = Checked(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
  const sockaddr_un address = UnixAddress(path);
  Checked(bind(fd, AsSockaddr(address), sizeof address), path.c_str());
  Checked(listen(fd, 16), "listen");
  return fd;
}

// Accepts one subscriber. `flags` as for accept4.
inline int AcceptSubscriber(int listening, int flags) {
  const int fd = Checked(accept4(listening, nullptr, nullptr, flags | SOCK_CLOEXEC), "accept");
  SetOption(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  SetOption(fd, SOL_SOCKET, SO_SNDBUF, kSendBuffer);
  SetOption(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  return fd;
}

// Closing it resets the connection, so that no port stays in TIME_WAIT.
inline void ResetWhenClosed(int fd) {
  const linger reset{.l_onoff = 1, .l_linger = 0};
  Checked(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), "setsockopt");
}

// For a subscriber's end. Closing it resets the connection, so that no port stays in TIME_WAIT.
// The kernel takes milliseconds to find a free port when half of those of
// an address are taken, so each few thousand of `number` have a source address of their own.
inline int SubscriberSocket(std::size_t number, int flags) {
  constexpr std::size_t kMostOfOneAddress = 8192;
  const int fd = Checked(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0), "socket");
  SetOption(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
  sockaddr_in source = Loopback(0);
  source.sin_addr.s_addr =
      htonl(INADDR_LOOPBACK + static_cast<std::uint32_t>(number / kMostOfOneAddress));
  Checked(bind(fd, AsSockaddr(source), sizeof source), "bind");
  const linger reset{.l_onoff = 1, .l_linger = 0};
  Checked(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), "setsockopt");
  return fd;
}

// A subscriber's end.
inline int ConnectTcp(std::uint16_t port, std::size_t number = 0) {
  const int fd = SubscriberSocket(number, 0);
  const sockaddr_in address = Loopback(port);
  Checked(connect(fd, AsSockaddr(address), sizeof address), "connect to the subscriber port");
  return fd;
}

inline int ConnectUnix(const std::string& path) {
  const int fd = Checked(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
  const sockaddr_un address = UnixAddress(path);
  Checked(connect(fd, AsSockaddr(address), sizeof address), path.c_str());
  return fd;
}

// As many files as the hard limit allows.
inline void RaiseFileLimit() {
  rlimit limit{};
  Checked(getrlimit(RLIMIT_NOFILE, &limit), "getrlimit");
  limit.rlim_cur = limit.rlim_max;
  Checked(setrlimit(RLIMIT_NOFILE, &limit), "setrlimit");
}

}  // namespace bench

#endif  // EVRELAY_TESTS_BENCH_SOCKETS_H_
