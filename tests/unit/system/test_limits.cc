#include <sys/resource.h>

#include <stdexcept>
#include <string>

#include "support/catch.h"
#include "system/limits.h"

namespace evrelay {
namespace {

std::string ErrorOf(std::uint64_t limit, const Config& config, std::size_t listeners = 1) {
  try {
    CheckFileLimit(limit, config, listeners);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("the soft limit becomes the hard one") {
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  const rlimit lowered{64, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &lowered) == 0);
  CHECK(RaiseFileLimit() == before.rlim_max);
  rlimit after{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &after) == 0);
  CHECK(after.rlim_cur == before.rlim_max);
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
}

TEST_CASE("a limit that is enough to the last file passes") {
  Config config;
  config.max_clients = 1000;
  config.producer.max_connections = 100;
  CHECK(ErrorOf(1000 + 100 + 3 + 32, config).empty());
  CHECK_FALSE(ErrorOf(1000 + 100 + 3 + 31, config).empty());
  CHECK(ErrorOf(1000 + 100 + 60 + 32, config, 20).empty());
  CHECK_FALSE(ErrorOf(1000 + 100 + 60 + 31, config, 20).empty());
  config.max_clients = 4294967295;  // no overflow
  CHECK_FALSE(ErrorOf(1000, config).empty());
}

TEST_CASE("the message says which number to change") {
  Config config;
  config.max_clients = 20000;
  CHECK(ErrorOf(4096, config) ==
        "max_clients: 20000 with producer.max_connections: 256 needs 20291 open files, but the "
        "limit is 4096: raise the hard limit (LimitNOFILE= of the unit, ulimit -Hn) or lower "
        "max_clients to 3805");
  const std::string error = ErrorOf(64, config);
  CHECK(error.ends_with("or lower max_clients and producer.max_connections"));
  config.max_clients = 3805;
  CHECK(ErrorOf(4096, config).empty());
}

}  // namespace evrelay
