#include "event/hangup_event.h"

#include <sys/epoll.h>

namespace evrelay {

bool HangupEvent::Watch(int fd) {
  if (event_) return true;
  epoll_ = UniqueFd(epoll_create1(EPOLL_CLOEXEC));
  epoll_event nothing_but_hangup{};
  if (!epoll_ || epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &nothing_but_hangup) != 0) return false;
  event_.emplace(loop_, epoll_.get(), handler_);
  event_->Watch(IoEvent::kRead);
  return true;
}

}  // namespace evrelay
