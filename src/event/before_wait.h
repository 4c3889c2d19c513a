// Calls back at the end of every turn of the loop, just before it waits for events again.

#ifndef EVRELAY_EVENT_BEFORE_WAIT_H_
#define EVRELAY_EVENT_BEFORE_WAIT_H_

#include "event/loop.h"

namespace evrelay {

class BeforeWait {
 public:
  struct Handler {
    void* object;
    void (*callback)(struct ev_loop*, ev_prepare*, int);
  };
  // Method: void (T::*)() noexcept.
  template <auto Method, class T>
  static Handler To(T* object) {
    return {object, [](struct ev_loop*, ev_prepare* watcher, int) {
              (static_cast<T*>(watcher->data)->*Method)();
            }};
  }

  BeforeWait(Loop& loop, Handler handler) : loop_(&loop) {
    ev_prepare_init(&watcher_, handler.callback);
    watcher_.data = handler.object;
    ev_prepare_start(loop_->raw(), &watcher_);
  }
  BeforeWait(const BeforeWait&) = delete;
  BeforeWait& operator=(const BeforeWait&) = delete;
  ~BeforeWait() { ev_prepare_stop(loop_->raw(), &watcher_); }

 private:
  ev_prepare watcher_;
  Loop* loop_;
};

}  // namespace evrelay

#endif  // EVRELAY_EVENT_BEFORE_WAIT_H_
