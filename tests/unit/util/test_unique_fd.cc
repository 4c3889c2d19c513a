#include <fcntl.h>
#include <unistd.h>

#include <utility>

#include "support/catch.h"
#include "util/unique_fd.h"

namespace evrelay {
namespace {

UniqueFd OpenNull() {
  UniqueFd fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  REQUIRE(fd);
  return fd;
}

bool IsOpen(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

}  // namespace

TEST_CASE("unique fd: closes what it owns, once") {
  int number = -1;
  {
    const UniqueFd fd = OpenNull();
    number = fd.get();
    CHECK(IsOpen(number));
  }
  CHECK_FALSE(IsOpen(number));

  UniqueFd fd = OpenNull();
  number = fd.get();
  fd.Close();
  CHECK_FALSE(IsOpen(number));
  CHECK_FALSE(fd);
  CHECK(fd.get() == -1);
  const UniqueFd next = OpenNull();
  REQUIRE(next.get() == number);
  fd.Close();
  CHECK(IsOpen(number));
}

TEST_CASE("unique fd: none") {
  const UniqueFd none;
  CHECK_FALSE(none);
  CHECK(none.get() == -1);
}

TEST_CASE("unique fd: moves") {
  UniqueFd from = OpenNull();
  const int number = from.get();
  UniqueFd to(std::move(from));
  CHECK_FALSE(from);
  CHECK(to.get() == number);

  UniqueFd other = OpenNull();
  const int replaced = other.get();
  other = std::move(to);
  CHECK(other.get() == number);
  CHECK_FALSE(IsOpen(replaced));
  CHECK(IsOpen(number));

  UniqueFd& self = other;
  other = std::move(self);
  CHECK(other.get() == number);
  CHECK(IsOpen(number));
}

TEST_CASE("unique fd: Release gives it away") {
  UniqueFd fd = OpenNull();
  const int number = fd.Release();
  CHECK_FALSE(fd);
  CHECK(IsOpen(number));
  ::close(number);
}

}  // namespace evrelay
