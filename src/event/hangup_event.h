// HangupEvent: tells when the peer of a stream socket has closed both of its directions. For a
// socket whose end has been read already, which a read watch would report again and again.
// Destruction cancels it.
//
// HangupPoll: the descriptor that all of them share, so that none is needed when none is left.
// Thread safety: none; the loop thread.

#ifndef EVRELAY_EVENT_HANGUP_EVENT_H_
#define EVRELAY_EVENT_HANGUP_EVENT_H_

#include "event/io_event.h"
#include "event/loop.h"
#include "util/unique_fd.h"

namespace evrelay {

class HangupPoll {
 public:
  // Throws std::system_error when there is no descriptor for it.
  explicit HangupPoll(Loop& loop);

 private:
  friend class HangupEvent;

  void OnReady(unsigned ready) noexcept;

  UniqueFd epoll_;
  IoEvent event_;
};

class HangupEvent {
 public:
  struct Handler {
    void* object;
    void (*callback)(void* object);
  };
  // Method: void (T::*)() noexcept. It may destroy the event.
  template <auto Method, class T>
  static Handler To(T* object) {
    return {object, [](void* to) { (static_cast<T*>(to)->*Method)(); }};
  }

  // `poll` must outlive it.
  HangupEvent(HangupPoll& poll, Handler handler) : poll_(poll), handler_(handler) {}
  HangupEvent(const HangupEvent&) = delete;
  HangupEvent& operator=(const HangupEvent&) = delete;
  ~HangupEvent();

  // Watches `fd` from now on; it is borrowed, and must stay open as long as this lives. Nothing
  // happens the second time.
  void Watch(int fd);

 private:
  friend class HangupPoll;

  HangupPoll& poll_;
  const Handler handler_;
  int fd_ = -1;
};

}  // namespace evrelay

#endif  // EVRELAY_EVENT_HANGUP_EVENT_H_
