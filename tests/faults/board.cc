#include "board.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

namespace faults {

namespace {

struct Board {
  Entry* entries = nullptr;
  std::size_t size = 0;
};

// By system calls alone: what libc has for it may be what is to fail.
Board Map() noexcept {
  const char* path = std::getenv("EVRELAY_FAULTS");
  if (path == nullptr) return {};
  const long opened = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
  if (opened < 0) return {};
  const int fd = static_cast<int>(opened);
  struct stat status;
  Board board;
  if (fstat(fd, &status) == 0) {
    const auto bytes = static_cast<std::size_t>(status.st_size);
    void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at != MAP_FAILED) board = {static_cast<Entry*>(at), bytes / sizeof(Entry)};
  }
  syscall(SYS_close, fd);
  return board;
}

}  // namespace

Entry* Find(std::string_view name) noexcept {
  static const Board board = Map();
  for (std::size_t i = 0; i < board.size; ++i) {
    Entry& entry = board.entries[i];
    if (name == std::string_view(entry.name, strnlen(entry.name, sizeof entry.name))) return &entry;
  }
  return nullptr;
}

}  // namespace faults
