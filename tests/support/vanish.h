// A TCP peer that vanishes: from now on its kernel throws away whatever comes for this socket, so
// it neither acknowledges nor answers.

#ifndef EVRELAY_TESTS_SUPPORT_VANISH_H_
#define EVRELAY_TESTS_SUPPORT_VANISH_H_

#include <linux/filter.h>
#include <sys/socket.h>

#include "support/catch.h"

namespace evrelay {

inline void Vanish(int fd) {
  sock_filter keep_nothing{BPF_RET | BPF_K, 0, 0, 0};
  const sock_fprog program{1, &keep_nothing};
  REQUIRE(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0);
}

}  // namespace evrelay

#endif  // EVRELAY_TESTS_SUPPORT_VANISH_H_
