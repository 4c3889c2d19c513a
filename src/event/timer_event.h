// One-shot timer on the monotonic clock. Destruction cancels it.

#ifndef EVRELAY_EVENT_TIMER_EVENT_H_
#define EVRELAY_EVENT_TIMER_EVENT_H_

#include <chrono>

#include "event/loop.h"

namespace evrelay {

class TimerEvent {
 public:
  struct Handler {
    void* object;
    void (*callback)(struct ev_loop*, ev_timer*, int);
  };
  // Method: void (T::*)() noexcept.
  template <auto Method, class T>
  static Handler To(T* object) {
    return {object, [](struct ev_loop* loop, ev_timer* watcher, int) {
              Loop::Touch(loop);
              (static_cast<T*>(watcher->data)->*Method)();
            }};
  }

  TimerEvent(Loop& loop, Handler handler) : loop_(&loop) {
    ev_timer_init(&watcher_, handler.callback, 0., 0.);
    watcher_.data = handler.object;
  }
  TimerEvent(const TimerEvent&) = delete;
  TimerEvent& operator=(const TimerEvent&) = delete;
  ~TimerEvent() { Cancel(); }

  bool scheduled() const { return ev_is_active(&watcher_); }

  // Fires once, `after` from now; replaces what was scheduled.
  void Schedule(std::chrono::nanoseconds after) {
    Cancel();
    // libev counts from the time of its last wait; a callback that ran long must not shorten this.
    ev_now_update(loop_->raw());
    ev_timer_set(&watcher_, std::chrono::duration<double>(after).count(), 0.);
    ev_timer_start(loop_->raw(), &watcher_);
  }
  void Cancel() { ev_timer_stop(loop_->raw(), &watcher_); }

 private:
  ev_timer watcher_;
  Loop* loop_;
};

}  // namespace evrelay

#endif  // EVRELAY_EVENT_TIMER_EVENT_H_
