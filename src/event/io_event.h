// Watches a borrowed descriptor, level-triggered. Destruction ends the watch; destroy it before the
// descriptor is closed. Small (one libev watcher and the loop) as every subscriber carries one.
//
// When the kernel has no memory for the watch, the handler is called with kLost, and nothing is
// watched until Watch is called again.
//
//   IoEvent event_{loop, fd, IoEvent::To<&Subscriber::OnReady>(this)};   // void OnReady(unsigned)

#ifndef EVRELAY_EVENT_IO_EVENT_H_
#define EVRELAY_EVENT_IO_EVENT_H_

#include "event/loop.h"

namespace evrelay {

class IoEvent {
 public:
  static constexpr unsigned kRead = EV_READ;
  static constexpr unsigned kWrite = EV_WRITE;
  static constexpr unsigned kLost = EV_ERROR;

  struct Handler {
    void* object;
    void (*callback)(struct ev_loop*, ev_io*, int);
  };
  // Method: void (T::*)(unsigned ready) noexcept.
  template <auto Method, class T>
  static Handler To(T* object) {
    return {
        object, [](struct ev_loop* loop, ev_io* watcher, int ready) {
          Loop::Touch(loop);
          // With an error libev says that all is ready.
          const bool lost = (ready & EV_ERROR) != 0;
          (static_cast<T*>(watcher->data)->*Method)(lost ? kLost : static_cast<unsigned>(ready));
        }};
  }

  IoEvent(Loop& loop, int fd, Handler handler) : loop_(&loop) {
    ev_io_init(&watcher_, handler.callback, fd, 0);
    watcher_.data = handler.object;
  }
  IoEvent(const IoEvent&) = delete;
  IoEvent& operator=(const IoEvent&) = delete;
  ~IoEvent() { ev_io_stop(loop_->raw(), &watcher_); }

  int fd() const { return watcher_.fd; }
  unsigned watched() const {
    if (!ev_is_active(&watcher_)) return 0;
    return static_cast<unsigned>(watcher_.events) & (kRead | kWrite);
  }

  // Watches exactly `events` from now on; 0 stops.
  void Watch(unsigned events) {
    if (events == watched()) return;
    const auto pending = static_cast<unsigned>(ev_clear_pending(loop_->raw(), &watcher_)) & events;
    ev_io_stop(loop_->raw(), &watcher_);
    ev_io_modify(&watcher_, static_cast<int>(events));
    if (events != 0) ev_io_start(loop_->raw(), &watcher_);
    if (pending != 0) Feed(pending);
  }
  void Add(unsigned events) { Watch(watched() | events); }
  // Calls the handler with `events` in this turn or the next, as if the descriptor were ready.
  void Feed(unsigned events) { ev_feed_event(loop_->raw(), &watcher_, static_cast<int>(events)); }
  void Remove(unsigned events) { Watch(watched() & ~events); }

 private:
  ev_io watcher_;
  Loop* loop_;
};

}  // namespace evrelay

#endif  // EVRELAY_EVENT_IO_EVENT_H_
