#include "net/socket.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <memory>
#include <system_error>

#include "net/address.h"

namespace evrelay {
namespace {

constexpr timeval kConnectTimeout{10, 0};

// Blocking; bounded by the time a send may take, which is then unbounded again. 0 or errno.
int ConnectWithin10s(int fd, const sockaddr* address, socklen_t size) {
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &kConnectTimeout, sizeof kConnectTimeout);
  const int error = connect(fd, address, size) == 0 ? 0 : errno;
  const timeval unbounded{};
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &unbounded, sizeof unbounded);
  // Timed out: TCP says the one, Unix sockets the other.
  return error == EINPROGRESS || error == EAGAIN ? ETIMEDOUT : error;
}

UniqueFd Connect(int family, const sockaddr* address, socklen_t size, const std::string& name,
                 std::string& error) {
  UniqueFd fd(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int status = fd ? ConnectWithin10s(fd.get(), address, size) : errno;
  if (status == 0) return fd;
  error = "connect " + name + ": " + std::generic_category().message(status);
  return UniqueFd();
}

void SetOption(int fd, int level, int option, int value) noexcept {
  setsockopt(fd, level, option, &value, sizeof value);
}

}  // namespace

void SetNoDelay(int fd) noexcept { SetOption(fd, IPPROTO_TCP, TCP_NODELAY, 1); }

void SetKeepAlive(int fd) noexcept {
  SetOption(fd, IPPROTO_TCP, TCP_KEEPIDLE, 15);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPINTVL, 5);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
  SetOption(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
}

void SetSendBuffer(int fd, std::uint32_t bytes) noexcept {
  SetOption(fd, SOL_SOCKET, SO_SNDBUF, static_cast<int>(std::min<std::uint32_t>(bytes, INT_MAX)));
}

void SetNonBlocking(int fd) {
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
    throw std::system_error(errno, std::generic_category(), "fcntl O_NONBLOCK");
  }
}

UniqueFd ConnectUnix(const std::string& path, std::string& error) {
  if (path.empty() || path.size() > kMaxUnixPath) {
    error = "connect " + path + ": the path of a Unix socket has 1 to " +
            std::to_string(kMaxUnixPath) + " bytes";
    return UniqueFd();
  }
  const sockaddr_un address = UnixSockaddr(path);
  return Connect(AF_UNIX, reinterpret_cast<const sockaddr*>(&address), sizeof address, path, error);
}

UniqueFd ConnectTcp(const std::string& host, std::uint16_t port, std::string& error) {
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* raw = nullptr;
  const int status = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &raw);
  if (status != 0) {
    error = "resolve " + host + ": " +
            (status == EAI_SYSTEM ? std::generic_category().message(errno) : gai_strerror(status));
    return UniqueFd();
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> found(raw, &freeaddrinfo);
  UniqueFd out;
  for (const addrinfo* info = raw; info != nullptr && !out; info = info->ai_next) {
    const std::string name =
        SocketAddress::FromSockaddr(info->ai_addr, info->ai_addrlen).ToString();
    out = Connect(info->ai_family, info->ai_addr, info->ai_addrlen, name, error);
  }
  return out;
}

}  // namespace evrelay
