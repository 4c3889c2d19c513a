// HangupEvent: tells when the peer of a stream socket has closed both of its directions. For a
// socket whose end has been read already, which a read watch would report again and again.
// Destruction cancels it. Thread safety: none; the loop thread.

#ifndef EVRELAY_EVENT_HANGUP_EVENT_H_
#define EVRELAY_EVENT_HANGUP_EVENT_H_

#include <optional>

#include "event/io_event.h"
#include "event/loop.h"
#include "util/unique_fd.h"

namespace evrelay {

class HangupEvent {
 public:
  HangupEvent(Loop& loop, IoEvent::Handler handler) : loop_(loop), handler_(handler) {}

  // Watches `fd`, which is borrowed, from now on. False: no descriptor is left for it, so nothing
  // will be told.
  bool Watch(int fd);

 private:
  Loop& loop_;
  const IoEvent::Handler handler_;
  UniqueFd epoll_;  // of the one descriptor
  std::optional<IoEvent> event_;
};

}  // namespace evrelay

#endif  // EVRELAY_EVENT_HANGUP_EVENT_H_
