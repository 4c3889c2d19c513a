#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <optional>
#include <utility>

#include "event/hangup_event.h"
#include "event/loop.h"
#include "support/catch.h"
#include "util/unique_fd.h"

namespace evrelay {
namespace {

std::pair<UniqueFd, UniqueFd> Connected() {
  std::array<int, 2> fds{};
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds.data()) == 0);
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

// The descriptor that the next call would get.
int NextFd() {
  const UniqueFd fd(dup(STDERR_FILENO));
  return fd.get();
}

class HangupTest {
 protected:
  HangupTest() : ends(Connected()) {
    event.emplace(loop, IoEvent::To<&HangupTest::OnHangup>(this));
  }
  void OnHangup(unsigned) noexcept {
    ++told;
    event.reset();  // as who is told may destroy it
  }
  int Told() {
    loop.RunUntilIdle();
    return told;
  }

  Loop loop;
  std::pair<UniqueFd, UniqueFd> ends;  // the watched one, its peer
  std::optional<HangupEvent> event;
  int told = 0;
};

}  // namespace

TEST_CASE_METHOD(HangupTest, "hangup: a peer that has ended its side is still there") {
  shutdown(ends.second.get(), SHUT_WR);
  CHECK(event->Watch(ends.first.get()));
  CHECK(Told() == 0);
  REQUIRE(send(ends.first.get(), "x", 1, 0) == 1);
  CHECK(Told() == 0);
  ends.second.Close();
  CHECK(Told() == 1);
}

TEST_CASE_METHOD(HangupTest, "hangup: what arrives is not its matter") {
  CHECK(event->Watch(ends.first.get()));
  REQUIRE(send(ends.second.get(), "hello", 5, 0) == 5);
  CHECK(Told() == 0);
  shutdown(ends.second.get(), SHUT_WR);
  CHECK(Told() == 0);
  ends.second.Close();
  CHECK(Told() == 1);
}

TEST_CASE_METHOD(HangupTest, "hangup: a peer that has gone before is told of, too") {
  REQUIRE(send(ends.first.get(), "unread", 6, 0) == 6);
  ends.second.Close();
  CHECK(event->Watch(ends.first.get()));
  CHECK(Told() == 1);
}

TEST_CASE_METHOD(HangupTest, "hangup: nothing is told before it watches") {
  ends.second.Close();
  CHECK(Told() == 0);
}

TEST_CASE_METHOD(HangupTest, "hangup: watching twice is watching") {
  CHECK(event->Watch(ends.first.get()));
  const int next = NextFd();
  CHECK(event->Watch(ends.first.get()));
  CHECK(NextFd() == next);
  ends.second.Close();
  CHECK(Told() == 1);
}

TEST_CASE_METHOD(HangupTest, "hangup: destruction ends the watch, and leaves no descriptor open") {
  const int next = NextFd();
  CHECK(event->Watch(ends.first.get()));
  CHECK(NextFd() != next);
  event.reset();
  CHECK(NextFd() == next);
  ends.second.Close();
  CHECK(Told() == 0);
}

TEST_CASE_METHOD(HangupTest,
                 "hangup: without a descriptor left it says so, and can be asked again") {
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &before) == 0);
  loop.RunUntilIdle();
  rlimit none = before;
  none.rlim_cur = 0;
  REQUIRE(setrlimit(RLIMIT_NOFILE, &none) == 0);
  const bool watches = event->Watch(ends.first.get());
  REQUIRE(setrlimit(RLIMIT_NOFILE, &before) == 0);
  CHECK_FALSE(watches);
  CHECK(Told() == 0);
  CHECK(event->Watch(ends.first.get()));
  ends.second.Close();
  CHECK(Told() == 1);
}

TEST_CASE_METHOD(HangupTest, "hangup: what cannot be watched is no watch") {
  const int gone = ends.first.get();
  ends.first.Close();
  CHECK_FALSE(event->Watch(gone));
  CHECK(Told() == 0);
}

}  // namespace evrelay
