// A TCP peer that vanishes: from now on its kernel throws away whatever comes for this socket, so
// it neither acknowledges nor answers. False: this kernel lets only root do that.

#ifndef EVRELAY_TESTS_SUPPORT_VANISH_H_
#define EVRELAY_TESTS_SUPPORT_VANISH_H_

#include <linux/filter.h>
#include <sys/socket.h>

#include <cerrno>

#include "support/catch.h"

namespace evrelay {

[[nodiscard]] inline bool Vanish(int fd) {
  sock_filter keep_nothing{BPF_RET | BPF_K, 0, 0, 0};
  const sock_fprog program{1, &keep_nothing};
  const bool vanished = setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0;
  if (!vanished) {
    REQUIRE(errno == EPERM);
    WARN("not tested: this kernel lets only root filter packets");
  }
  return vanished;
}

}  // namespace evrelay

#endif  // EVRELAY_TESTS_SUPPORT_VANISH_H_
