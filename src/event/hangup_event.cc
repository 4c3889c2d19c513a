#include "event/hangup_event.h"

#include <sys/epoll.h>

#include <cerrno>
#include <system_error>

namespace evrelay {

HangupPoll::HangupPoll(Loop& loop)
    : epoll_(epoll_create1(EPOLL_CLOEXEC)),
      event_(loop, epoll_.get(), IoEvent::To<&HangupPoll::OnReady>(this)) {
  if (!epoll_) throw std::system_error(errno, std::generic_category(), "epoll_create1");
  event_.Watch(IoEvent::kRead);
}

// One at a time, as what is told may destroy others; the loop calls again while there are any.
void HangupPoll::OnReady(unsigned ready) noexcept {
  if ((ready & IoEvent::kLost) != 0) return;
  epoll_event found{};
  if (epoll_wait(epoll_.get(), &found, 1, 0) != 1) return;
  const HangupEvent::Handler handler = static_cast<HangupEvent*>(found.data.ptr)->handler_;
  handler.callback(handler.object);
}

HangupEvent::~HangupEvent() {
  if (fd_ >= 0) epoll_ctl(poll_.epoll_.get(), EPOLL_CTL_DEL, fd_, nullptr);
}

void HangupEvent::Watch(int fd) {
  epoll_event nothing_but_hangup{};
  nothing_but_hangup.data.ptr = this;
  // Fails when it is watched already, or when the kernel has no memory for it; then a peer that
  // leaves is found when it is next written to.
  if (epoll_ctl(poll_.epoll_.get(), EPOLL_CTL_ADD, fd, &nothing_but_hangup) == 0) fd_ = fd;
  poll_.event_.Watch(IoEvent::kRead);  // it may have been lost
}

}  // namespace evrelay
