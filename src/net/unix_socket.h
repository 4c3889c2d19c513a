// The path of a listening Unix socket, from taking it over to removing it. For start-up and
// shutdown of the process; whoever accepts on the socket is the Listener.
//
// Invariants:
// (1) While it exists this process holds an exclusive flock on PATH.lock. Two processes that
// respect
//     the lock never have the same path. The lock file stays behind, unlocked.
// (2) Nothing at PATH is ever removed or replaced but a socket on which nobody listens. Symbolic
//     links are not followed.
// (3) The socket appears at PATH with its final owner, group and mode, listening: it is made in a
//     directory that only this user can enter, beside PATH, and then renamed.

#ifndef EVRELAY_NET_UNIX_SOCKET_H_
#define EVRELAY_NET_UNIX_SOCKET_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <utility>

#include "util/unique_fd.h"

namespace evrelay {

struct UnixSocketOptions {
  std::string path;  // absolute, at most kMaxUnixPath bytes
  mode_t mode = 0600;
  std::optional<uid_t> user;  // none: the process's own
  std::optional<gid_t> group;
};

class UnixSocketPath {
 public:
  // Binds and listens. Throws AddressInUse (net/listener.h) when another process listens there or
  // holds the lock, or when PATH is not a socket; std::system_error otherwise. Messages begin with
  // the path. After a throw nothing is left behind but the lock file.
  explicit UnixSocketPath(const UnixSocketOptions& options);
  UnixSocketPath(const UnixSocketPath&) = delete;
  UnixSocketPath& operator=(const UnixSocketPath&) = delete;
  // Removes PATH if it is still the socket made here, then gives the lock back.
  ~UnixSocketPath();

  // The listening socket, non-blocking and close-on-exec; once. The kernel knows it by the name it
  // had before the rename, so its Listener must be told "unix:" + path().
  UniqueFd TakeListener() { return std::move(listener_); }

  const std::string& path() const { return path_; }

 private:
  std::string path_;
  UniqueFd lock_;
  UniqueFd listener_;
  dev_t device_ = 0;  // with inode_: the file that was put at PATH
  ino_t inode_ = 0;
};

}  // namespace evrelay

#endif  // EVRELAY_NET_UNIX_SOCKET_H_
