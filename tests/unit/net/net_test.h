// What the tests of net share: places, peers, limits and a resolver of their own.

#ifndef EVRELAY_TESTS_UNIT_NET_NET_TEST_H_
#define EVRELAY_TESTS_UNIT_NET_NET_TEST_H_

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "net/address.h"
#include "net/listener.h"
#include "support/catch.h"
#include "util/unique_fd.h"

namespace evrelay {

inline constexpr std::chrono::seconds kDeadline{10};

// Peers, as accept tells of them.
SocketAddress Ipv4(const char* ip, std::uint16_t port);
SocketAddress Ipv6(const char* ip, std::uint16_t port);

// Short, so that the longest path of a Unix socket can lie in it.
class TempDirectory {
 public:
  TempDirectory() { REQUIRE(mkdtemp(path_.data()) != nullptr); }
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;
  ~TempDirectory() {
    std::error_code ignored;
    std::filesystem::permissions(path_, std::filesystem::perms(0700), ignored);
    std::filesystem::remove_all(path_, ignored);
  }

  const std::string& path() const { return path_; }
  std::string File(const std::string& name) const { return path_ + "/" + name; }
  // Sorted.
  std::vector<std::string> Names() const;

 private:
  std::string path_ = "/tmp/evrelay-XXXXXX";
};

// Collects what is logged while it lives.
class LoggedLines {
 public:
  LoggedLines();
  LoggedLines(const LoggedLines&) = delete;
  LoggedLines& operator=(const LoggedLines&) = delete;
  ~LoggedLines();
  // Ends the collection.
  std::vector<std::string> Take();

 private:
  TempDirectory directory_;
};

// Sets the soft limit of open files while a Listener accepts or opens its spare descriptor, for as
// long as it lives. All else is spared: the undefined behaviour sanitizer takes any object for
// broken when it cannot open a pipe.
class AcceptLimit {
 public:
  explicit AcceptLimit(rlim_t soft);
  AcceptLimit(const AcceptLimit&) = delete;
  AcceptLimit& operator=(const AcceptLimit&) = delete;
  ~AcceptLimit();
};

// Takes root's powers away for as long as it lives, so that the kernel checks permissions. Without
// root there is nothing to take.
class Unprivileged {
 public:
  static constexpr uid_t kNobody = 65534;

  Unprivileged() {
    if (root_) REQUIRE(seteuid(kNobody) == 0);
  }
  Unprivileged(const Unprivileged&) = delete;
  Unprivileged& operator=(const Unprivileged&) = delete;
  ~Unprivileged() {
    if (root_ && seteuid(0) != 0) abort();
  }

 private:
  const bool root_ = geteuid() == 0;
};

// The limit that leaves room for `count` more descriptors.
inline rlim_t LimitFor(int count) {
  std::vector<UniqueFd> room;
  do {
    room.emplace_back(fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0));
    REQUIRE(room.back());
  } while (count-- > 0);
  return static_cast<rlim_t>(room.back().get());
}

inline int GetOption(int fd, int level, int option) {
  int value = -1;
  socklen_t size = sizeof value;
  REQUIRE(getsockopt(fd, level, option, &value, &size) == 0);
  return value;
}

inline bool NonBlocking(int fd) { return (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0; }
inline bool CloseOnExec(int fd) { return (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0; }

inline SocketAddress LocalAddress(int fd) {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  auto* address = reinterpret_cast<sockaddr*>(&storage);
  REQUIRE(getsockname(fd, address, &size) == 0);
  return SocketAddress::FromSockaddr(address, size);
}

// Waits until the peer has ended or reset the connection.
inline bool SeesEnd(int fd) {
  pollfd poll_fd{fd, POLLIN, 0};
  const std::chrono::milliseconds deadline = kDeadline;
  if (poll(&poll_fd, 1, static_cast<int>(deadline.count())) != 1) return false;
  char byte;
  return recv(fd, &byte, 1, MSG_DONTWAIT) <= 0;
}

// Nothing has happened to the connection yet.
inline bool SeesNothing(int fd) {
  pollfd poll_fd{fd, POLLIN, 0};
  return poll(&poll_fd, 1, 0) == 0;
}

inline UniqueFd OneListener(const std::string& host) {
  std::vector<UniqueFd> fds = OpenTcpListeners(BindAddress{host, 0, {}});
  REQUIRE(fds.size() == 1);
  return std::move(fds[0]);
}

// A listening Unix socket made by other means than UnixSocketPath: somebody else's.
UniqueFd ForeignListener(const std::string& path, int backlog = 8);
// A socket file on which nobody listens any more.
void LeaveDeadSocket(const std::string& path);

bool HasIpv6();

// Names that the test program resolves by itself, whatever the machine's resolver says:
//   several.test  127.0.0.1, 127.0.0.2, 127.0.0.1
//   both.test     127.0.0.1, ::1
//   lacking.test  127.0.0.1, 2001:db8::1 (an address for documentation: no machine has it)
//   absent.test   2001:db8::1
//   foreign.test  127.0.0.1, 203.0.113.1 (the same for IPv4)
//   unknown.test  none

}  // namespace evrelay

#endif  // EVRELAY_TESTS_UNIT_NET_NET_TEST_H_
