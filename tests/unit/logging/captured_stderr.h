// Puts a pipe in the place of stderr for as long as it lives.

#ifndef EVRELAY_TESTS_UNIT_LOGGING_CAPTURED_STDERR_H_
#define EVRELAY_TESTS_UNIT_LOGGING_CAPTURED_STDERR_H_

#include <fcntl.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "support/catch.h"
#include "util/unique_fd.h"

namespace evrelay {

class CapturedStderr {
 public:
  CapturedStderr() : saved_(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0)) {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    read_end_ = UniqueFd(ends[0]);
    const UniqueFd write_end(ends[1]);
    REQUIRE(::dup2(write_end.get(), STDERR_FILENO) == STDERR_FILENO);
  }
  ~CapturedStderr() { Restore(); }

  int read_end() const { return read_end_.get(); }

  // The test's copy of the write end goes, so that a reader meets EOF once the log's is gone too.
  void Restore() {
    if (!saved_) return;
    ::dup2(saved_.get(), STDERR_FILENO);
    saved_.Close();
  }

  // All that was written. The log must have been shut down.
  std::string Take() {
    Restore();
    return ReadToEnd(read_end_.get());
  }

  static std::string ReadToEnd(int fd) {
    std::string text;
    char chunk[4096];
    for (ssize_t n; (n = ::read(fd, chunk, sizeof(chunk))) > 0;) {
      text.append(chunk, static_cast<std::size_t>(n));
    }
    return text;
  }

 private:
  UniqueFd saved_;
  UniqueFd read_end_;
};

inline std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  std::size_t begin = 0;
  for (std::size_t end; (end = text.find('\n', begin)) != text.npos; begin = end + 1) {
    lines.push_back(text.substr(begin, end - begin));
  }
  REQUIRE(begin == text.size());  // whole lines only
  return lines;
}

// What stands behind the time.
inline std::string WithoutTime(const std::string& line) {
  const std::size_t space = line.find(' ');
  REQUIRE(space != line.npos);
  return line.substr(space + 1);
}

}  // namespace evrelay

#endif  // EVRELAY_TESTS_UNIT_LOGGING_CAPTURED_STDERR_H_
