#include "event/loop.h"

#include <stdexcept>

namespace evrelay {

Loop::Loop() : loop_(ev_loop_new(EVFLAG_AUTO)) {
  if (loop_ == nullptr)
    throw std::runtime_error("cannot create an event loop: no libev backend works here");
  ev_set_userdata(loop_, this);
  ev_async_init(&wake_, [](struct ev_loop* raw, ev_async*, int) {
    static_cast<Loop*>(ev_userdata(raw))->woken_ = true;
  });
  ev_async_start(loop_, &wake_);
  ev_unref(loop_);  // it is nothing to go on for
  ev_set_loop_release_cb(loop_, &Loop::OnWait, nullptr);
  ev_run(loop_, EVRUN_NOWAIT);
  if (woken_) return;
  ev_loop_destroy(loop_);
  throw std::runtime_error("the kernel has no memory for an event loop");
}

Loop::~Loop() { ev_loop_destroy(loop_); }

// When the kernel refuses a watch, libev knows it by now but tells it after the wait, which is to
// be none then. Where it refuses the one by which threads and signals wake the loop, libev tells
// nobody: so the loop wakes itself once, to see.
void Loop::OnWait(struct ev_loop* raw) noexcept {
  auto* self = static_cast<Loop*>(ev_userdata(raw));
  if (ev_pending_count(raw) != 0 || !self->woken_) ev_async_send(raw, &self->wake_);
}

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
