// Owner of a file descriptor. Plain int parameters borrow, UniqueFd parameters move in.

#ifndef EVRELAY_UTIL_UNIQUE_FD_H_
#define EVRELAY_UTIL_UNIQUE_FD_H_

#include <unistd.h>

#include <utility>

namespace evrelay {

class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) {
      Close();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~UniqueFd() { Close(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int Release() { return std::exchange(fd_, -1); }
  void Close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

 private:
  int fd_ = -1;
};

}  // namespace evrelay

#endif  // EVRELAY_UTIL_UNIQUE_FD_H_
