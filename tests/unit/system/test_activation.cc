// Needs libsystemd.

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/catch.h"
#include "support/temporary_directory.h"
#include "system/systemd.h"
#include "unit/system/environment.h"

namespace evrelay {
namespace {

UniqueFd TcpSocket(int type = SOCK_STREAM) {
  UniqueFd fd(::socket(AF_INET, type, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
  return fd;
}

UniqueFd TcpListener() {
  UniqueFd fd = TcpSocket();
  REQUIRE(::listen(fd.get(), 1) == 0);
  return fd;
}

UniqueFd UnixListener(const std::string& path) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  REQUIRE(path.copy(address.sun_path, sizeof(address.sun_path) - 1) == path.size());
  REQUIRE(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
  REQUIRE(::listen(fd.get(), 1) == 0);
  return fd;
}

// Passes sockets as systemd does: descriptors from 3 on, and three variables. What was open there
// is put back at the end.
class Passed {
 public:
  Passed(std::vector<UniqueFd> sockets, const std::string& names)
      : Passed(std::move(sockets), names, std::to_string(::getpid())) {}
  Passed(std::vector<UniqueFd> sockets, const std::string& names, const std::string& pid)
      : pid_("LISTEN_PID", pid),
        count_("LISTEN_FDS", std::to_string(sockets.size())),
        names_("LISTEN_FDNAMES", names) {
    // First out of the way: the sockets themselves may have the numbers from 3 on.
    std::vector<UniqueFd> high;
    for (const UniqueFd& socket : sockets) {
      high.emplace_back(::fcntl(socket.get(), F_DUPFD_CLOEXEC, 50));
    }
    sockets.clear();
    for (std::size_t i = 0; i < high.size(); ++i) {
      const int target = 3 + static_cast<int>(i);
      saved_.emplace_back(::fcntl(target, F_DUPFD_CLOEXEC, 50));
      REQUIRE(::dup2(high[i].get(), target) == target);
    }
  }
  ~Passed() {
    for (std::size_t i = 0; i < saved_.size(); ++i) {
      const int target = 3 + static_cast<int>(i);
      if (saved_[i]) {
        ::dup2(saved_[i].get(), target);
      } else {
        ::close(target);  // closed already when it was taken
      }
    }
  }

 private:
  Variable pid_;
  Variable count_;
  Variable names_;
  std::vector<UniqueFd> saved_;
};

template <class... Fds>
std::vector<UniqueFd> Sockets(Fds... fds) {
  std::vector<UniqueFd> sockets;
  (sockets.push_back(std::move(fds)), ...);
  return sockets;
}

std::string ErrorOfTaking() {
  try {
    TakeActivatedSockets();
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("passed sockets are told apart by name") {
  const TemporaryDirectory directory;
  const Passed passed(Sockets(TcpListener(), UnixListener(directory / "p"), TcpListener()),
                      "subscriber:producer:subscriber");
  ActivatedSockets sockets = TakeActivatedSockets();
  REQUIRE(sockets.subscriber.size() == 2);
  CHECK(sockets.subscriber[0].get() == 3);
  CHECK(sockets.subscriber[1].get() == 5);
  CHECK(sockets.producer.get() == 4);
  for (const int fd : {3, 4, 5}) {
    CHECK((::fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
    CHECK((::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
  }

  CHECK(std::getenv("LISTEN_FDS") == nullptr);
  CHECK(std::getenv("LISTEN_PID") == nullptr);
  CHECK(std::getenv("LISTEN_FDNAMES") == nullptr);
  const ActivatedSockets again = TakeActivatedSockets();
  CHECK(again.subscriber.empty());
  CHECK_FALSE(again.producer);
}

TEST_CASE("subscribers may come over a Unix socket") {
  const TemporaryDirectory directory;
  const Passed passed(Sockets(UnixListener(directory / "s")), "subscriber");
  const ActivatedSockets sockets = TakeActivatedSockets();
  CHECK(sockets.subscriber.size() == 1);
  CHECK_FALSE(sockets.producer);
}

TEST_CASE("sockets of another process are not ours") {
  const Passed passed(Sockets(TcpListener()), "subscriber", "1");
  const ActivatedSockets sockets = TakeActivatedSockets();
  CHECK(sockets.subscriber.empty());
  CHECK(::fcntl(3, F_GETFD) >= 0);
}

TEST_CASE("sockets that evrelay has no use for are errors, and none is left open") {
  const TemporaryDirectory directory;
  {
    const Passed passed(Sockets(TcpListener(), TcpListener()), "subscriber:evrelay.socket");
    const std::string error = ErrorOfTaking();
    CHECK(error.find("\"evrelay.socket\"") != error.npos);
    CHECK(error.find("FileDescriptorName=subscriber") != error.npos);
    CHECK(::fcntl(3, F_GETFD) < 0);
    CHECK(::fcntl(4, F_GETFD) < 0);
  }
  {
    const Passed passed(Sockets(TcpListener()), "producer");
    CHECK(ErrorOfTaking().find("is no Unix socket") != std::string::npos);
  }
  {
    const Passed passed(Sockets(UnixListener(directory / "a"), UnixListener(directory / "b")),
                        "producer:producer");
    CHECK(ErrorOfTaking().find("is there twice") != std::string::npos);
  }
  {
    const Passed passed(Sockets(TcpSocket()), "subscriber");  // does not listen
    CHECK(ErrorOfTaking().find("is no listening stream socket") != std::string::npos);
  }
  {
    const Passed passed(Sockets(TcpSocket(SOCK_DGRAM)), "subscriber");
    CHECK(ErrorOfTaking().find("is no listening stream socket") != std::string::npos);
  }
  {
    const Passed passed(Sockets(TcpListener()), "subscriber:producer");
    CHECK(ErrorOfTaking().find("LISTEN_FDNAMES") != std::string::npos);
  }
}

TEST_CASE("the watchdog's interval is for the process it names") {
  const Variable interval("WATCHDOG_USEC", "30000000");
  {
    const Variable pid("WATCHDOG_PID", std::to_string(::getpid()));
    CHECK(WatchdogInterval() == std::chrono::seconds(30));
  }
  {
    const Variable pid("WATCHDOG_PID", "1");
    CHECK_FALSE(WatchdogInterval());
  }
  const Variable none("WATCHDOG_USEC", std::nullopt);
  CHECK_FALSE(WatchdogInterval());
}

}  // namespace evrelay
