#include "net/unix_socket.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <system_error>

#include "net/address.h"
#include "net/listener.h"

namespace evrelay {
namespace {

[[noreturn]] void Throw(int error, const std::string& what) {
  throw std::system_error(error, std::generic_category(), what);
}

// A directory that only this user can enter, beside the socket's path. What is left in it goes with
// it.
class PrivateDirectory {
 public:
  static constexpr std::string_view kTemplate = ".XXXXXX";
  static constexpr std::string_view kSocketName = "/s";

  explicit PrivateDirectory(std::string_view parent_with_slash)
      : directory_(std::string(parent_with_slash).append(kTemplate)) {
    // mkdtemp heeds the umask, which may take even what the owner needs.
    if (mkdtemp(directory_.data()) == nullptr || chmod(directory_.c_str(), S_IRWXU) != 0) {
      Throw(errno, std::string(parent_with_slash) + ": cannot create a directory in it");
    }
    socket_ = std::string(directory_).append(kSocketName);
  }
  PrivateDirectory(const PrivateDirectory&) = delete;
  PrivateDirectory& operator=(const PrivateDirectory&) = delete;
  ~PrivateDirectory() {
    unlink(socket_.c_str());
    rmdir(directory_.c_str());
  }

  const std::string& socket() const { return socket_; }

 private:
  std::string directory_;
  std::string socket_;
};

void CheckPath(const std::string& path) {
  if (!path.starts_with('/') || path.ends_with('/') || path.find('\0') != path.npos) {
    Throw(EINVAL, path + ": the absolute path of a socket expected");
  }
  // The socket is bound under another name first, which has to fit as well.
  constexpr std::size_t kMaxParent =
      kMaxUnixPath - PrivateDirectory::kTemplate.size() - PrivateDirectory::kSocketName.size();
  const std::size_t parent = path.rfind('/') + 1;
  if (path.size() > kMaxUnixPath || parent > kMaxParent) {
    Throw(ENAMETOOLONG, path + ": the path of a Unix socket has at most " +
                            std::to_string(kMaxUnixPath) + " bytes, " + std::to_string(kMaxParent) +
                            " up to its last slash; this one has " + std::to_string(path.size()) +
                            " and " + std::to_string(parent));
  }
}

UniqueFd Lock(const std::string& path) {
  const std::string lock_path = path + ".lock";
  UniqueFd lock(
      open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600));
  if (!lock && errno == ENOENT) {
    Throw(errno, path + ": its directory does not exist; create it or choose another path");
  }
  if (!lock) Throw(errno, lock_path + ": cannot open the lock file");
  struct stat status;
  if (fstat(lock.get(), &status) != 0) Throw(errno, lock_path);
  if (!S_ISREG(status.st_mode)) throw AddressInUse(lock_path + ": not a regular file");
  if (flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) Throw(errno, lock_path + ": cannot lock");
    throw AddressInUse(path + ": another process holds " + lock_path);
  }
  return lock;
}

// What renameat2 may do: replace the dead socket that is at `path`, or nothing. Throws AddressInUse
// for all else that is there.
unsigned RenameFlags(const std::string& path) {
  struct stat status;
  if (lstat(path.c_str(), &status) != 0) {
    if (errno != ENOENT) Throw(errno, path);
    return RENAME_NOREPLACE;
  }
  if (!S_ISSOCK(status.st_mode)) {
    throw AddressInUse(path + ": exists and is not a socket; remove it or choose another path");
  }
  // Not blocking, as a live listener's backlog may be full.
  UniqueFd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!probe) Throw(errno, "socket for " + path);
  const sockaddr_un address = UnixSockaddr(path);
  if (connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ||
      errno == EAGAIN) {
    throw AddressInUse(path + ": another process listens on it");
  }
  if (errno == ENOENT) return RENAME_NOREPLACE;
  if (errno != ECONNREFUSED) {
    throw AddressInUse(path + ": cannot tell whether the socket is dead (" +
                       std::generic_category().message(errno) + ")");
  }
  return 0;
}

UniqueFd BindAndListen(const std::string& at, const UnixSocketOptions& options) {
  const std::string& path = options.path;  // the name that messages use
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) Throw(errno, "socket for " + path);
  const sockaddr_un address = UnixSockaddr(at);
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    Throw(errno, path + ": cannot bind");
  }
  if (chmod(at.c_str(), options.mode) != 0) Throw(errno, path + ": cannot set the mode");
  constexpr auto kKeepUser = static_cast<uid_t>(-1);
  constexpr auto kKeepGroup = static_cast<gid_t>(-1);
  if ((options.user || options.group) && chown(at.c_str(), options.user.value_or(kKeepUser),
                                               options.group.value_or(kKeepGroup)) != 0) {
    Throw(errno, path + ": cannot give it to the configured user and group");
  }
  if (listen(fd.get(), kListenBacklog) != 0) Throw(errno, path + ": cannot listen");
  return fd;
}

}  // namespace

UnixSocketPath::UnixSocketPath(const UnixSocketOptions& options) : path_(options.path) {
  CheckPath(path_);
  lock_ = Lock(path_);
  const unsigned rename_flags = RenameFlags(path_);

  const PrivateDirectory directory(std::string_view(path_).substr(0, path_.rfind('/') + 1));
  const std::string& bound = directory.socket();
  listener_ = BindAndListen(bound, options);
  struct stat status;
  if (lstat(bound.c_str(), &status) != 0) Throw(errno, path_);
  if (renameat2(AT_FDCWD, bound.c_str(), AT_FDCWD, path_.c_str(), rename_flags) != 0) {
    if (errno == EEXIST) throw AddressInUse(path_ + ": another process has just created it");
    Throw(errno, path_ + ": cannot rename the socket to this path");
  }
  device_ = status.st_dev;
  inode_ = status.st_ino;
}

UnixSocketPath::~UnixSocketPath() {
  struct stat status;
  if (lstat(path_.c_str(), &status) == 0 && status.st_dev == device_ && status.st_ino == inode_) {
    unlink(path_.c_str());
  }
}

}  // namespace evrelay
