#include "net/peer_credentials.h"

#include <sys/socket.h>

#include <cerrno>

namespace evrelay {

std::optional<PeerCredentials> ReadPeerCredentials(int fd) {
  ucred cred{};
  socklen_t size = sizeof cred;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) != 0) return std::nullopt;
  PeerCredentials out{cred.pid, cred.uid, cred.gid, {}};
  // A socket without a recorded peer answers above, with ids of -1, but not here.
  out.groups.resize(32);
  for (;;) {
    size = static_cast<socklen_t>(out.groups.size() * sizeof(gid_t));
    const int status = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, out.groups.data(), &size);
    if (status != 0 && errno != ERANGE) return std::nullopt;
    // Too small a buffer: `size` is what it takes.
    out.groups.resize(size / sizeof(gid_t));
    if (status == 0) return out;
  }
}

}  // namespace evrelay
