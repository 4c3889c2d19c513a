// The event loop: libev behind a door. The files of this folder are the only ones that name it.
// One loop, one thread; everything here is for that thread alone.

#ifndef EVRELAY_EVENT_LOOP_H_
#define EVRELAY_EVENT_LOOP_H_

#include <ev.h>

#include <chrono>
#include <cstdint>

namespace evrelay {

class Loop {
 public:
  // Throws std::runtime_error when no backend can be had, or the loop cannot be woken.
  Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;
  ~Loop();

  // Turns until Break.
  void Run();
  void Break();

  // Turns, without waiting, until a turn finds nothing to do. For tests: pump, don't wait.
  void RunUntilIdle();

  // Monotonic time; never steps.
  static std::chrono::steady_clock::time_point Now() { return std::chrono::steady_clock::now(); }

  struct ev_loop* raw() {
    return loop_;
  }

  // Called by every watcher's trampoline; RunUntilIdle looks whether it moved.
  static void Touch(struct ev_loop* loop) { ++static_cast<Loop*>(ev_userdata(loop))->dispatched_; }

 private:
  static void OnWait(struct ev_loop* raw) noexcept;

  struct ev_loop* loop_;
  ev_async wake_;
  bool woken_ = false;  // by wake_, once
  std::uint64_t dispatched_ = 0;
};

}  // namespace evrelay

#endif  // EVRELAY_EVENT_LOOP_H_
