#include "event/loop.h"

#include <stdexcept>

namespace evrelay {

Loop::Loop() : loop_(ev_loop_new(EVFLAG_AUTO)) {
  if (loop_ == nullptr)
    throw std::runtime_error("cannot create an event loop: no libev backend works here");
  ev_set_userdata(loop_, this);
}

Loop::~Loop() { ev_loop_destroy(loop_); }

void Loop::Run() { ev_run(loop_, 0); }

void Loop::Break() { ev_break(loop_, EVBREAK_ALL); }

void Loop::RunUntilIdle() {
  std::uint64_t before;
  do {
    before = dispatched_;
    ev_run(loop_, EVRUN_NOWAIT);
  } while (dispatched_ != before);
}

}  // namespace evrelay
