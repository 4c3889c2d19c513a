#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <atomic>
#include <fstream>
#include <string>
#include <thread>

#include "net/socket.h"
#include "net/unix_socket.h"
#include "unit/net/net_test.h"

namespace evrelay {
namespace {

using Names = std::vector<std::string>;

UnixSocketOptions At(const std::string& path) {
  UnixSocketOptions options;
  options.path = path;
  return options;
}

bool CanConnect(const std::string& path) {
  std::string error;
  return static_cast<bool>(ConnectUnix(path, error));
}

struct stat StatusOf(const std::string& path) {
  struct stat status;
  INFO(path);
  REQUIRE(lstat(path.c_str(), &status) == 0);
  return status;
}

std::string ContentOf(const std::string& path) {
  std::ifstream file(path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// Tries to take `path`; the message of the AddressInUse that came, "" when it was taken.
std::string InUse(const std::string& path) {
  try {
    const UnixSocketPath taken(At(path));
    return "";
  } catch (const AddressInUse& error) {
    return error.what();
  }
}

// Tries to take `path`; the error that came, which was not AddressInUse.
std::error_code Failure(const UnixSocketOptions& options) {
  try {
    const UnixSocketPath taken(options);
    return {};
  } catch (const AddressInUse&) {
    FAIL("in use");
    return {};
  } catch (const std::system_error& error) {
    INFO(error.what());
    CHECK(std::string(error.what()).starts_with(options.path.c_str()));
    return error.code();
  }
}

// Runs `body` in a child process and waits until it has said that it is ready; killed in the end.
class Child {
 public:
  template <class Body>
  explicit Child(Body body) {
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    const UniqueFd ready(ends[0]);
    UniqueFd say(ends[1]);
    pid_ = fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      body([&] {
        if (write(say.get(), "x", 1) != 1) _exit(1);
        // Not longer than the test, should that die.
        alarm(60);
        for (;;) pause();
      });
      _exit(1);
    }
    say.Close();
    char byte;
    REQUIRE(read(ready.get(), &byte, 1) == 1);
  }
  ~Child() { Kill(); }
  void Kill() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

 private:
  pid_t pid_ = -1;
};

}  // namespace

TEST_CASE("the socket listens at its path and is removed in the end, the lock file stays") {
  const TempDirectory directory;
  {
    UnixSocketPath socket(At(directory.File("p.sock")));
    CHECK(socket.path() == directory.File("p.sock"));
    CHECK(directory.Names() == Names{"p.sock", "p.sock.lock"});
    const UniqueFd fd = socket.TakeListener();
    REQUIRE(fd);
    CHECK(NonBlocking(fd.get()));
    CHECK(CloseOnExec(fd.get()));
    CHECK(CanConnect(directory.File("p.sock")));
    UniqueFd server(accept4(fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
    CHECK(server);
  }
  CHECK(directory.Names() == Names{"p.sock.lock"});
}

TEST_CASE("the path can be taken again once it was given back") {
  const TempDirectory directory;
  for (int i = 0; i < 3; ++i) CHECK(InUse(directory.File("p.sock")).empty());
}

TEST_CASE("the socket has the configured mode, whatever the umask") {
  const TempDirectory directory;
  const mode_t mode = GENERATE(mode_t{0600}, mode_t{0660}, mode_t{0666}, mode_t{0777});
  const mode_t mask = GENERATE(mode_t{0}, mode_t{022}, mode_t{077});
  UnixSocketOptions options = At(directory.File("p.sock"));
  options.mode = mode;
  const mode_t saved = umask(mask);
  const UnixSocketPath socket(options);
  umask(saved);
  CHECK((StatusOf(options.path).st_mode & 07777) == mode);
  CHECK(S_ISSOCK(StatusOf(options.path).st_mode));
}

TEST_CASE("the socket has the configured owner and group") {
  const TempDirectory directory;
  UnixSocketOptions options = At(directory.File("p.sock"));
  const bool root = geteuid() == 0;
  options.user = root ? Unprivileged::kNobody : geteuid();
  options.group = root ? 65533 : getegid();
  if (!root) WARN("not root: only its own user and group can be tried");
  const UnixSocketPath socket(options);
  CHECK(StatusOf(options.path).st_uid == *options.user);
  CHECK(StatusOf(options.path).st_gid == *options.group);
  CHECK((StatusOf(options.path).st_mode & 07777) == options.mode);
}

TEST_CASE("the group alone can be configured") {
  const TempDirectory directory;
  UnixSocketOptions options = At(directory.File("p.sock"));
  options.group = geteuid() == 0 ? 65533 : getegid();
  const UnixSocketPath socket(options);
  CHECK(StatusOf(options.path).st_uid == geteuid());
  CHECK(StatusOf(options.path).st_gid == *options.group);
}

TEST_CASE("an owner that may not be set is refused and nothing is left but the lock file") {
  const TempDirectory directory;
  std::filesystem::permissions(directory.path(), std::filesystem::perms(0777));
  UnixSocketOptions options = At(directory.File("p.sock"));
  options.user = 0;
  {
    const Unprivileged unprivileged;
    CHECK(Failure(options) == std::errc::operation_not_permitted);
  }
  CHECK(directory.Names() == Names{"p.sock.lock"});
}

TEST_CASE("nobody ever sees a wider mode or a directory to get in by") {
  const TempDirectory directory;
  const std::string path = directory.File("p.sock");
  std::atomic<int> seen = 0;
  std::atomic<int> wider = 0;
  std::atomic<bool> stop = false;
  std::thread looker([&] {
    while (!stop) {
      struct stat status;
      if (lstat(path.c_str(), &status) == 0) {
        ++seen;
        if ((status.st_mode & 0777) != 0600) ++wider;
      }
      std::error_code gone;
      for (const auto& entry : std::filesystem::directory_iterator(directory.path(), gone)) {
        if (lstat(entry.path().c_str(), &status) != 0) continue;
        if (S_ISDIR(status.st_mode) && (status.st_mode & 0777) != 0700) ++wider;
      }
    }
  });
  const mode_t saved = umask(0);
  const auto deadline = std::chrono::steady_clock::now() + kDeadline;
  while (seen < 1000 && std::chrono::steady_clock::now() < deadline) {
    const UnixSocketPath socket(At(path));
  }
  umask(saved);
  stop = true;
  looker.join();
  CHECK(seen >= 1000);
  CHECK(wider == 0);
}

TEST_CASE("a dead socket is replaced") {
  const TempDirectory directory;
  const std::string path = directory.File("p.sock");
  LeaveDeadSocket(path);
  REQUIRE_FALSE(CanConnect(path));
  const ino_t dead = StatusOf(path).st_ino;
  const UnixSocketPath socket(At(path));
  CHECK(CanConnect(path));
  CHECK(StatusOf(path).st_ino != dead);
  CHECK(directory.Names() == Names{"p.sock", "p.sock.lock"});
}

TEST_CASE("a live socket of somebody else is refused and goes on working") {
  const TempDirectory directory;
  const std::string path = directory.File("p.sock");
  const UniqueFd foreign = ForeignListener(path);
  const std::string message = InUse(path);
  INFO(message);
  CHECK(message.starts_with(path + ": another process listens on it"));
  CHECK(CanConnect(path));
  CHECK(directory.Names() == Names{"p.sock", "p.sock.lock"});
}

TEST_CASE("a live socket whose backlog is full is refused without waiting") {
  const TempDirectory directory;
  const std::string path = directory.File("p.sock");
  const UniqueFd foreign = ForeignListener(path, 0);
  std::vector<UniqueFd> waiting;
  const sockaddr_un address = UnixSockaddr(path);
  for (;;) {
    waiting.emplace_back(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (connect(waiting.back().get(), reinterpret_cast<const sockaddr*>(&address),
                sizeof address) != 0) {
      break;
    }
  }
  REQUIRE(errno == EAGAIN);
  CHECK(InUse(path).starts_with(path + ": another process listens on it"));
}

TEST_CASE("a live datagram socket is refused") {
  const TempDirectory directory;
  const std::string path = directory.File("p.sock");
  const UniqueFd foreign(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const sockaddr_un address = UnixSockaddr(path);
  REQUIRE(bind(foreign.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  const ino_t before = StatusOf(path).st_ino;
  CHECK(InUse(path).starts_with(path + ": "));
  CHECK(StatusOf(path).st_ino == before);
}

TEST_CASE("a socket that may not be tried is refused") {
  const TempDirectory directory;
  std::filesystem::permissions(directory.path(), std::filesystem::perms(0777));
  const std::string path = directory.File("p.sock");
  LeaveDeadSocket(path);
  REQUIRE(chmod(path.c_str(), 0) == 0);
  const ino_t before = StatusOf(path).st_ino;
  {
    const Unprivileged unprivileged;
    CHECK(InUse(path).starts_with(path + ": cannot tell whether the socket is dead"));
  }
  CHECK(StatusOf(path).st_ino == before);
}

TEST_CASE("a regular file is refused and left alone") {
  const TempDirectory directory;
  const std::string path = directory.File("p.sock");
  std::ofstream(path) << "precious";
  const std::string message = InUse(path);
  INFO(message);
  CHECK(message.starts_with(path + ": exists and is not a socket"));
  CHECK(ContentOf(path) == "precious");
}

TEST_CASE("a directory and a FIFO are refused and left alone") {
  const TempDirectory directory;
  const std::string path = directory.File("p.sock");
  const bool fifo = GENERATE(false, true);
  REQUIRE((fifo ? mkfifo(path.c_str(), 0600) : mkdir(path.c_str(), 0700)) == 0);
  const mode_t before = StatusOf(path).st_mode;
  CHECK(InUse(path).starts_with(path + ": exists and is not a socket"));
  CHECK(StatusOf(path).st_mode == before);
}

TEST_CASE("a symbolic link is refused, wherever it points, and not followed") {
  const TempDirectory directory;
  const std::string path = directory.File("p.sock");
  const std::string target = directory.File("target");
  const int kind = GENERATE(0, 1, 2);
  if (kind == 1) std::ofstream(target) << "precious";
  if (kind == 2) LeaveDeadSocket(target);
  REQUIRE(symlink(target.c_str(), path.c_str()) == 0);
  CHECK(InUse(path).starts_with(path + ": exists and is not a socket"));
  CHECK(S_ISLNK(StatusOf(path).st_mode));
  CHECK(std::filesystem::read_symlink(path) == target);
  if (kind == 0) CHECK_FALSE(std::filesystem::exists(target));
  if (kind == 1) CHECK(ContentOf(target) == "precious");
  if (kind == 2) CHECK(S_ISSOCK(StatusOf(target).st_mode));
}

TEST_CASE("a path that another process has locked is refused until that process is gone") {
  const TempDirectory directory;
  const std::string path = directory.File("p.sock");
  Child holder([&](auto ready) {
    const UnixSocketPath socket(At(path));
    ready();
  });
  const ino_t before = StatusOf(path).st_ino;
  const std::string message = InUse(path);
  INFO(message);
  CHECK(message.starts_with(path + ": another process holds " + path + ".lock"));
  CHECK(StatusOf(path).st_ino == before);
  CHECK(CanConnect(path));

  // Killed, it leaves a dead socket.
  holder.Kill();
  CHECK(StatusOf(path).st_ino == before);
  const UnixSocketPath socket(At(path));
  CHECK(CanConnect(path));
  CHECK(StatusOf(path).st_ino != before);
}

TEST_CASE("a held lock alone refuses the path, before anything is looked at or made") {
  const TempDirectory directory;
  const std::string path = directory.File("p.sock");
  LeaveDeadSocket(path);
  const ino_t before = StatusOf(path).st_ino;
  const UniqueFd lock(open((path + ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  REQUIRE(flock(lock.get(), LOCK_EX) == 0);
  CHECK_FALSE(InUse(path).empty());
  CHECK(StatusOf(path).st_ino == before);
  CHECK(directory.Names() == Names{"p.sock", "p.sock.lock"});
}

TEST_CASE("a second owner in the same process is refused") {
  const TempDirectory directory;
  const UnixSocketPath socket(At(directory.File("p.sock")));
  CHECK_FALSE(InUse(directory.File("p.sock")).empty());
  CHECK(CanConnect(directory.File("p.sock")));
}

TEST_CASE("a lock file that is a symbolic link is not followed") {
  const TempDirectory directory;
  const std::string path = directory.File("p.sock");
  const std::string target = directory.File("target");
  REQUIRE(symlink(target.c_str(), (path + ".lock").c_str()) == 0);
  CHECK(Failure(At(path)) == std::errc::too_many_symbolic_link_levels);
  CHECK_FALSE(std::filesystem::exists(target));
}

TEST_CASE("a lock file that is a FIFO is refused without waiting") {
  const TempDirectory directory;
  const std::string path = directory.File("p.sock");
  REQUIRE(mkfifo((path + ".lock").c_str(), 0600) == 0);
  CHECK(InUse(path).starts_with(path + ".lock: not a regular file"));
}

TEST_CASE("an unwritable directory is refused") {
  const TempDirectory directory;
  std::filesystem::permissions(directory.path(), std::filesystem::perms(0555));
  {
    const Unprivileged unprivileged;
    CHECK(Failure(At(directory.File("p.sock"))) == std::errc::permission_denied);
  }
  CHECK(directory.Names().empty());
}

TEST_CASE("an unwritable directory is refused though the lock file is there") {
  const TempDirectory directory;
  std::ofstream(directory.File("p.sock.lock"));
  std::filesystem::permissions(directory.File("p.sock.lock"), std::filesystem::perms(0666));
  std::filesystem::permissions(directory.path(), std::filesystem::perms(0555));
  {
    const Unprivileged unprivileged;
    try {
      const UnixSocketPath socket(At(directory.File("p.sock")));
      FAIL("taken");
    } catch (const std::system_error& error) {
      CHECK(error.code() == std::errc::permission_denied);
      CHECK(std::string(error.what()).starts_with(directory.path() + "/: cannot create"));
    }
  }
  CHECK(directory.Names() == Names{"p.sock.lock"});
}

TEST_CASE("a directory that does not exist is refused and not made") {
  const TempDirectory directory;
  const std::string path = directory.File("none/p.sock");
  try {
    const UnixSocketPath socket(At(path));
    FAIL("taken");
  } catch (const std::system_error& error) {
    CHECK(error.code() == std::errc::no_such_file_or_directory);
    CHECK(std::string(error.what()).starts_with(path + ": its directory does not exist"));
  }
  CHECK(directory.Names().empty());
}

TEST_CASE("a path may have 107 bytes and no more") {
  const TempDirectory directory;
  std::string path = directory.path() + "/";
  path.append(kMaxUnixPath - path.size(), 'x');
  REQUIRE(path.size() == 107);
  {
    const UnixSocketPath socket(At(path));
    CHECK(CanConnect(path));
  }
  std::filesystem::remove(path + ".lock");
  CHECK(Failure(At(path + "x")) == std::errc::filename_too_long);
  CHECK(directory.Names().empty());
}

TEST_CASE("a directory too long for the name the socket is bound under is refused clearly") {
  const TempDirectory directory;
  std::string parent = directory.path() + "/";
  parent.append(98 - parent.size(), 'd');
  std::filesystem::create_directory(parent);
  CHECK(Failure(At(parent + "/p")) == std::errc::filename_too_long);
  CHECK(std::filesystem::is_empty(parent));
  // One byte less is not too long.
  const std::string shorter = parent.substr(0, parent.size() - 1);
  std::filesystem::create_directory(shorter);
  const UnixSocketPath socket(At(shorter + "/p"));
  CHECK(CanConnect(shorter + "/p"));
}

TEST_CASE("a path that names no file is refused") {
  const std::string path = GENERATE(std::string(), std::string("p.sock"), std::string("/tmp/"),
                                    std::string("/tmp/a\0b", 8));
  CHECK(Failure(At(path)) == std::errc::invalid_argument);
}

TEST_CASE("in the end a file that took the socket's place is left alone") {
  const TempDirectory directory;
  const std::string path = directory.File("p.sock");
  UniqueFd foreign;
  {
    const UnixSocketPath socket(At(path));
    // Under another name first: a freed inode number could be given out again.
    foreign = ForeignListener(directory.File("other"));
    std::filesystem::rename(directory.File("other"), path);
  }
  CHECK(directory.Names() == Names{"p.sock", "p.sock.lock"});
  CHECK(CanConnect(path));
}

}  // namespace evrelay
