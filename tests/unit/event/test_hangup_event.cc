#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

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
    event.emplace(poll, HangupEvent::To<&HangupTest::OnHangup>(this));
  }
  void OnHangup() noexcept {
    ++told;
    event.reset();  // as who is told may destroy it
  }
  int Told() {
    loop.RunUntilIdle();
    return told;
  }

  Loop loop;
  HangupPoll poll{loop};
  std::pair<UniqueFd, UniqueFd> ends;  // the watched one, its peer
  std::optional<HangupEvent> event;
  int told = 0;
};

}  // namespace

TEST_CASE_METHOD(HangupTest, "hangup: a peer that has ended its side is still there") {
  shutdown(ends.second.get(), SHUT_WR);
  event->Watch(ends.first.get());
  CHECK(Told() == 0);
  REQUIRE(send(ends.first.get(), "x", 1, 0) == 1);
  CHECK(Told() == 0);
  ends.second.Close();
  CHECK(Told() == 1);
}

TEST_CASE_METHOD(HangupTest, "hangup: what arrives is not its matter") {
  event->Watch(ends.first.get());
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
  event->Watch(ends.first.get());
  CHECK(Told() == 1);
}

TEST_CASE_METHOD(HangupTest, "hangup: nothing is told before it watches") {
  ends.second.Close();
  CHECK(Told() == 0);
}

TEST_CASE_METHOD(HangupTest, "hangup: watching twice is watching, and takes no descriptor") {
  const int next = NextFd();
  event->Watch(ends.first.get());
  event->Watch(ends.first.get());
  CHECK(NextFd() == next);
  ends.second.Close();
  CHECK(Told() == 1);
}

TEST_CASE_METHOD(HangupTest, "hangup: destruction ends the watch") {
  event->Watch(ends.first.get());
  event.reset();
  ends.second.Close();
  CHECK(Told() == 0);
}

TEST_CASE_METHOD(HangupTest, "hangup: it needs no descriptor when none is left") {
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &before) == 0);
  loop.RunUntilIdle();
  rlimit none = before;
  none.rlim_cur = 0;
  REQUIRE(setrlimit(RLIMIT_NOFILE, &none) == 0);
  event->Watch(ends.first.get());
  REQUIRE(setrlimit(RLIMIT_NOFILE, &before) == 0);
  ends.second.Close();
  CHECK(Told() == 1);
}

TEST_CASE_METHOD(HangupTest, "hangup: what cannot be watched is no watch") {
  const int gone = ends.first.get();
  ends.first.Close();
  event->Watch(gone);
  CHECK(Told() == 0);
}

TEST_CASE("hangup: of many that go at once each is told of, whoever destroys whom") {
  struct Pair {
    Pair(HangupPoll& poll, int& told) : told_(told), ends(Connected()) {
      event.emplace(poll, HangupEvent::To<&Pair::OnHangup>(this));
    }
    void OnHangup() noexcept {
      ++told_;
      victim.reset();
      event.reset();
    }

    int& told_;
    std::pair<UniqueFd, UniqueFd> ends;
    std::optional<HangupEvent> event;
    std::unique_ptr<Pair> victim;  // of the same round
  };
  Loop loop;
  HangupPoll poll(loop);
  int told = 0;
  std::vector<std::unique_ptr<Pair>> pairs;
  for (int i = 0; i < 100; ++i) {
    Pair& pair = *pairs.emplace_back(std::make_unique<Pair>(poll, told));
    pair.victim = std::make_unique<Pair>(poll, told);
    for (Pair* each : {&pair, pair.victim.get()}) {
      each->event->Watch(each->ends.first.get());
      each->ends.second.Close();
    }
  }
  loop.RunUntilIdle();
  CHECK(told >= 100);
  CHECK(told <= 200);
}

}  // namespace evrelay
