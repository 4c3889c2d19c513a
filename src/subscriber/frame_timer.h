// FrameTimer: ends subscribers that take longer than frame_timeout over one frame.
//
// Every frame may take equally long, so those that have begun stand in one list, in that order,
// and one timer is enough: it looks at the front. A subscriber that is not read is not in the list;
// when it is read again its frame has the whole time anew.
// Thread safety: none; the loop thread.

#ifndef EVRELAY_SUBSCRIBER_FRAME_TIMER_H_
#define EVRELAY_SUBSCRIBER_FRAME_TIMER_H_

#include <chrono>

#include "config/config.h"
#include "event/loop.h"
#include "event/timer_event.h"
#include "util/intrusive_list.h"

namespace evrelay {

class Subscriber;
struct BegunFrameTag;

// The frame of a subscriber that has begun and is to be ended.
class BegunFrame : public ListHook<BegunFrameTag> {
 public:
  bool timed() const { return linked(); }
  std::chrono::steady_clock::time_point began() const { return began_; }  // if timed
  void StopTime() {
    if (linked()) Unlink();
  }

 private:
  friend class FrameTimer;
  std::chrono::steady_clock::time_point began_;
};

class FrameTimer {
 public:
  // `config` changes in place.
  FrameTimer(Loop& loop, const Config& config);
  ~FrameTimer();

  // The subscriber's frame begins now.
  void Begin(Subscriber& subscriber);

  // frame_timeout may have changed.
  void OnReload() { Schedule(); }

 private:
  void Schedule();
  void OnTime() noexcept;
  std::chrono::steady_clock::time_point FirstDeadline();

  const Config& config_;
  IntrusiveList<Subscriber, BegunFrameTag> begun_;
  TimerEvent timer_;  // may be early, as frames end, but is never late
};

}  // namespace evrelay

#endif  // EVRELAY_SUBSCRIBER_FRAME_TIMER_H_
