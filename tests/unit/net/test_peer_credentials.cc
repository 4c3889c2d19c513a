#include <grp.h>

#include <algorithm>
#include <string>

#include "net/peer_credentials.h"
#include "net/socket.h"
#include "unit/net/net_test.h"

namespace evrelay {
namespace {

struct Pair {
  Pair() {
    int ends[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    a = UniqueFd(ends[0]);
    b = UniqueFd(ends[1]);
  }
  UniqueFd a, b;
};

std::vector<gid_t> OwnGroups() {
  std::vector<gid_t> groups(static_cast<std::size_t>(getgroups(0, nullptr)));
  REQUIRE(getgroups(static_cast<int>(groups.size()), groups.data()) ==
          static_cast<int>(groups.size()));
  return groups;
}

std::vector<gid_t> Sorted(std::vector<gid_t> groups) {
  std::sort(groups.begin(), groups.end());
  return groups;
}

}  // namespace

TEST_CASE("the credentials of a peer are its pid, ids and groups") {
  const Pair pair;
  const std::optional<PeerCredentials> peer = ReadPeerCredentials(pair.a.get());
  REQUIRE(peer);
  CHECK(peer->pid == getpid());
  CHECK(peer->uid == geteuid());
  CHECK(peer->gid == getegid());
  CHECK(Sorted(peer->groups) == Sorted(OwnGroups()));
}

TEST_CASE("a client of a path is seen with the ids it connected with") {
  const TempDirectory directory;
  const UniqueFd listening = ForeignListener(directory.File("s"));
  std::filesystem::permissions(directory.path(), std::filesystem::perms(0755));
  std::filesystem::permissions(directory.File("s"), std::filesystem::perms(0777));
  std::string error;
  UniqueFd client;
  uid_t connected_as;
  {
    const Unprivileged unprivileged;
    connected_as = geteuid();
    client = ConnectUnix(directory.File("s"), error);
  }
  REQUIRE(client);
  const UniqueFd server(accept4(listening.get(), nullptr, nullptr, SOCK_CLOEXEC));
  const std::optional<PeerCredentials> peer = ReadPeerCredentials(server.get());
  REQUIRE(peer);
  CHECK(peer->uid == connected_as);
  CHECK(peer->pid == getpid());
}

TEST_CASE("a peer with many groups is seen with all of them") {
  if (geteuid() != 0) {
    WARN("skipped: only root may choose its groups");
    return;
  }
  const std::vector<gid_t> saved = OwnGroups();
  std::vector<gid_t> many;
  for (gid_t gid = 5000; gid < 5300; ++gid) many.push_back(gid);
  REQUIRE(setgroups(many.size(), many.data()) == 0);
  const Pair pair;
  REQUIRE(setgroups(saved.size(), saved.data()) == 0);
  const std::optional<PeerCredentials> peer = ReadPeerCredentials(pair.a.get());
  REQUIRE(peer);
  CHECK(Sorted(peer->groups) == many);
}

TEST_CASE("a TCP peer has no credentials") {
  const UniqueFd listening = OneListener("127.0.0.1");
  std::string error;
  const UniqueFd client = ConnectTcp("127.0.0.1", LocalAddress(listening.get()).port(), error);
  REQUIRE(client);
  CHECK_FALSE(ReadPeerCredentials(client.get()));
}

TEST_CASE("what is not a connected socket has no credentials") {
  const UniqueFd unconnected(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  CHECK_FALSE(ReadPeerCredentials(unconnected.get()));
  const UniqueFd file(open("/dev/null", O_RDONLY | O_CLOEXEC));
  CHECK_FALSE(ReadPeerCredentials(file.get()));
  CHECK_FALSE(ReadPeerCredentials(-1));
}

}  // namespace evrelay
