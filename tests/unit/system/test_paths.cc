#include "support/catch.h"
#include "system/paths.h"
#include "unit/system/environment.h"

namespace evrelay {

using Paths = std::vector<std::string>;

TEST_CASE("the daemon's socket is in the first runtime directory there is") {
  const Variable runtime("RUNTIME_DIRECTORY", "/run/of-unit");
  const Variable session("XDG_RUNTIME_DIR", "/run/user/7");
  CHECK(DefaultSocketPath() == "/run/of-unit/producer.sock");
  {
    const Variable two("RUNTIME_DIRECTORY", "/run/a:/run/b");
    CHECK(DefaultSocketPath() == "/run/a/producer.sock");
  }
  const Variable no_runtime("RUNTIME_DIRECTORY", std::nullopt);
  CHECK(DefaultSocketPath() == "/run/user/7/evrelay/producer.sock");
  const Variable no_session("XDG_RUNTIME_DIR", std::nullopt);
  CHECK(DefaultSocketPath() == "/run/evrelay/producer.sock");
}

TEST_CASE("empty and relative directories are as good as none") {
  const Variable runtime("RUNTIME_DIRECTORY", "");
  const Variable session("XDG_RUNTIME_DIR", "tmp");
  CHECK(DefaultSocketPath() == "/run/evrelay/producer.sock");
}

TEST_CASE("clients try the named socket, the session's, the system's") {
  const Variable runtime("RUNTIME_DIRECTORY", "/run/of-unit");
  const Variable named("EVRELAY_SOCKET", "./my.sock");
  const Variable session("XDG_RUNTIME_DIR", "/run/user/7");
  CHECK(ClientSocketCandidates() ==
        Paths{"./my.sock", "/run/user/7/evrelay/producer.sock", "/run/evrelay/producer.sock"});
  const Variable unnamed("EVRELAY_SOCKET", "");
  CHECK(ClientSocketCandidates() ==
        Paths{"/run/user/7/evrelay/producer.sock", "/run/evrelay/producer.sock"});
  const Variable no_name("EVRELAY_SOCKET", std::nullopt);
  const Variable no_session("XDG_RUNTIME_DIR", std::nullopt);
  CHECK(ClientSocketCandidates() == Paths{"/run/evrelay/producer.sock"});
}

}  // namespace evrelay
