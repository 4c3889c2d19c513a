// Turns a loop until something has come from another thread. The loop waits in between, as it does
// in the daemon: so a wake-up that is missing shows.

#ifndef EVRELAY_TESTS_SUPPORT_TURN_UNTIL_H_
#define EVRELAY_TESTS_SUPPORT_TURN_UNTIL_H_

#include <chrono>
#include <utility>

#include "event/before_wait.h"
#include "event/loop.h"
#include "event/timer_event.h"

namespace evrelay {

inline constexpr std::chrono::seconds kTestDeadline{30};

// Calls `done` at the end of every turn. False: it was still false at the deadline.
template <class Done>
bool TurnUntil(Loop& loop, Done done) {
  struct Turner {
    void OnTurn() noexcept {
      if (!done()) return;
      reached = true;
      loop.Break();
    }
    void OnDeadline() noexcept { loop.Break(); }

    Loop& loop;
    Done& done;
    bool reached = false;
  } turner{loop, done};
  const BeforeWait turn(loop, BeforeWait::To<&Turner::OnTurn>(&turner));
  TimerEvent deadline(loop, TimerEvent::To<&Turner::OnDeadline>(&turner));
  deadline.Schedule(kTestDeadline);
  loop.Run();
  return turner.reached;
}

}  // namespace evrelay

#endif  // EVRELAY_TESTS_SUPPORT_TURN_UNTIL_H_
