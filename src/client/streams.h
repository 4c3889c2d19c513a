// The three descriptors a command talks to its user through, so that tests can pass pipes.

#ifndef EVRELAY_CLIENT_STREAMS_H_
#define EVRELAY_CLIENT_STREAMS_H_

#include <unistd.h>

#include <string_view>

namespace evrelay {

struct Streams {
  int in = STDIN_FILENO;
  int out = STDOUT_FILENO;
  int err = STDERR_FILENO;
};

// Writes all of `text`, however long it takes. Returns 0, or the errno of the write that failed.
int WriteAll(int fd, std::string_view text);

}  // namespace evrelay

#endif  // EVRELAY_CLIENT_STREAMS_H_
