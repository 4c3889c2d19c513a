#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <string>

#include "support/catch.h"
#include "support/temporary_directory.h"
#include "system/systemd.h"
#include "unit/system/environment.h"

namespace evrelay {
namespace {

UniqueFd Supervisor(const std::string& name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  REQUIRE(name.copy(address.sun_path, sizeof(address.sun_path) - 1) == name.size());
  UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  REQUIRE(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address),
                 static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size())) == 0);
  return fd;
}

std::string Receive(int fd) {
  char state[4096];
  const ssize_t n = ::recv(fd, state, sizeof(state), 0);
  return n < 0 ? "nothing" : std::string(state, static_cast<std::size_t>(n));
}

}  // namespace

TEST_CASE("states reach the supervisor") {
  const TemporaryDirectory directory;
  const std::string path = directory / "notify";
  const UniqueFd supervisor = Supervisor(path);
  const Variable variable("NOTIFY_SOCKET", path);
  CHECK(NotifySystemd("READY=1\nSTATUS=running"));
  CHECK(NotifySystemd("STOPPING=1"));
  CHECK(Receive(supervisor.get()) == "READY=1\nSTATUS=running");
  CHECK(Receive(supervisor.get()) == "STOPPING=1");
  CHECK(Receive(supervisor.get()) == "nothing");
}

TEST_CASE("the supervisor's name may be abstract") {
  const std::string name = "evrelay-test-notify-" + std::to_string(::getpid());
  const UniqueFd supervisor = Supervisor(std::string(1, '\0') + name);
  const Variable variable("NOTIFY_SOCKET", "@" + name);
  CHECK(NotifySystemd("READY=1"));
  CHECK(Receive(supervisor.get()) == "READY=1");
}

TEST_CASE("a supervisor that does not read is not waited for") {
  const TemporaryDirectory directory;
  const std::string path = directory / "notify";
  const UniqueFd supervisor = Supervisor(path);
  const Variable variable("NOTIFY_SOCKET", path);
  int taken = 0;
  while (taken < 100'000 && NotifySystemd("WATCHDOG=1")) ++taken;
  CHECK(taken > 0);
  CHECK(taken < 100'000);
  CHECK(Receive(supervisor.get()) == "WATCHDOG=1");
  CHECK(NotifySystemd("WATCHDOG=1"));
}

TEST_CASE("without a supervisor nothing happens, a wrong one is no success") {
  {
    const Variable variable("NOTIFY_SOCKET", std::nullopt);
    CHECK(NotifySystemd("READY=1"));
  }
  const TemporaryDirectory directory;
  for (const std::string& path : {directory / "missing", std::string(200, 'x'), std::string()}) {
    const Variable variable("NOTIFY_SOCKET", path);
    CHECK_FALSE(NotifySystemd("READY=1"));
  }
}

}  // namespace evrelay
