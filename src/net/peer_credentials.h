// Who is at the other end of a Unix socket, as the kernel recorded it when the peer connected.
// Later changes of the peer's ids do not show. Any thread.

#ifndef EVRELAY_NET_PEER_CREDENTIALS_H_
#define EVRELAY_NET_PEER_CREDENTIALS_H_

#include <sys/types.h>

#include <optional>
#include <vector>

namespace evrelay {

struct PeerCredentials {
  pid_t pid = 0;  // 0: not visible from here (another PID namespace)
  uid_t uid = 0;
  gid_t gid = 0;              // effective
  std::vector<gid_t> groups;  // supplementary
};

// None when `fd` is not a connected Unix socket.
std::optional<PeerCredentials> ReadPeerCredentials(int fd);

}  // namespace evrelay

#endif  // EVRELAY_NET_PEER_CREDENTIALS_H_
