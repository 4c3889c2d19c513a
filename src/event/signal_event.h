// Calls back on the loop when a signal has arrived. Destruction restores the default action.

#ifndef EVRELAY_EVENT_SIGNAL_EVENT_H_
#define EVRELAY_EVENT_SIGNAL_EVENT_H_

#include "event/loop.h"

namespace evrelay {

class SignalEvent {
 public:
  struct Handler {
    void* object;
    void (*callback)(struct ev_loop*, ev_signal*, int);
  };
  // Method: void (T::*)(int signal_number) noexcept.
  template <auto Method, class T>
  static Handler To(T* object) {
    return {object, [](struct ev_loop* loop, ev_signal* watcher, int) {
              Loop::Touch(loop);
              (static_cast<T*>(watcher->data)->*Method)(watcher->signum);
            }};
  }

  SignalEvent(Loop& loop, int signal_number, Handler handler) : loop_(&loop) {
    ev_signal_init(&watcher_, handler.callback, signal_number);
    watcher_.data = handler.object;
    ev_signal_start(loop_->raw(), &watcher_);
  }
  SignalEvent(const SignalEvent&) = delete;
  SignalEvent& operator=(const SignalEvent&) = delete;
  ~SignalEvent() { ev_signal_stop(loop_->raw(), &watcher_); }

 private:
  ev_signal watcher_;
  Loop* loop_;
};

}  // namespace evrelay

#endif  // EVRELAY_EVENT_SIGNAL_EVENT_H_
