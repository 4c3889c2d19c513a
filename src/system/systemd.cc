#include "system/systemd.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#ifdef EVRELAY_WITH_SYSTEMD
#include <systemd/sd-daemon.h>
#endif
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

namespace evrelay {

#ifdef EVRELAY_WITH_SYSTEMD

namespace {

struct PassedSocket {
  UniqueFd fd;
  std::string name;
};

// Owns them all before anything can throw.
std::vector<PassedSocket> TakePassedSockets() {
  char** names = nullptr;
  const int count = ::sd_listen_fds_with_names(1, &names);
  if (count < 0) {
    throw std::system_error(-count, std::generic_category(),
                            "LISTEN_FDS, LISTEN_PID or LISTEN_FDNAMES of the environment");
  }
  std::vector<PassedSocket> sockets;
  for (int i = 0; i < count; ++i) {
    sockets.push_back({UniqueFd(SD_LISTEN_FDS_START + i), names[i]});
    std::free(names[i]);
  }
  std::free(names);
  return sockets;
}

void MakeNonBlocking(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
    throw std::system_error(errno, std::generic_category(), "fcntl on a socket of LISTEN_FDS");
  }
}

}  // namespace

ActivatedSockets TakeActivatedSockets() {
  ActivatedSockets activated;
  for (PassedSocket& socket : TakePassedSockets()) {
    const std::string what = "the socket \"" + socket.name + "\" of LISTEN_FDS ";
    if (socket.name != "subscriber" && socket.name != "producer") {
      throw std::runtime_error(what +
                               "has no use here: the .socket unit must say "
                               "FileDescriptorName=subscriber or FileDescriptorName=producer");
    }
    const int fd = socket.fd.get();
    if (::sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) <= 0) {
      throw std::runtime_error(what +
                               "is no listening stream socket: use ListenStream= and "
                               "Accept=no");
    }
    MakeNonBlocking(fd);
    if (socket.name == "subscriber") {
      activated.subscriber.push_back(std::move(socket.fd));
      continue;
    }
    if (::sd_is_socket(fd, AF_UNIX, SOCK_STREAM, 1) <= 0) {
      throw std::runtime_error(what + "is no Unix socket: give ListenStream= a path");
    }
    if (activated.producer) {
      throw std::runtime_error(what + "is there twice: evrelay has one producer socket");
    }
    activated.producer = std::move(socket.fd);
  }
  return activated;
}

std::optional<std::chrono::microseconds> WatchdogInterval() {
  std::uint64_t microseconds = 0;
  if (::sd_watchdog_enabled(0, &microseconds) <= 0) return std::nullopt;
  return std::chrono::microseconds(microseconds);
}

#else

ActivatedSockets TakeActivatedSockets() {
  const char* pid = std::getenv("LISTEN_PID");
  if (pid != nullptr && pid == std::to_string(::getpid())) {
    throw std::runtime_error(
        "LISTEN_FDS: this evrelay was built without socket activation; start it without a .socket "
        "unit");
  }
  return {};
}

std::optional<std::chrono::microseconds> WatchdogInterval() { return std::nullopt; }

#endif

// Not sd_notify, which waits while the supervisor's queue is full.
bool NotifySystemd(std::string_view state) noexcept {
  const char* path = std::getenv("NOTIFY_SOCKET");
  if (path == nullptr) return true;
  const std::size_t length = std::strlen(path);
  sockaddr_un address{};
  if (length == 0 || length >= sizeof(address.sun_path)) return false;
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path, length);
  if (path[0] == '@') address.sun_path[0] = '\0';  // an abstract name
  const UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd) return false;
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length);
  return ::sendto(fd.get(), state.data(), state.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
                  reinterpret_cast<const sockaddr*>(&address),
                  size) == static_cast<ssize_t>(state.size());
}

}  // namespace evrelay
