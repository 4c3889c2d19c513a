#include "event/mailbox.h"

namespace evrelay {

Wakeup::Wakeup(Loop& loop) : loop_(&loop) {
  ev_async_init(&watcher_, [](struct ev_loop* raw, ev_async*, int) { Loop::Touch(raw); });
  ev_async_start(loop_->raw(), &watcher_);
}

Wakeup::~Wakeup() { ev_async_stop(loop_->raw(), &watcher_); }

void Wakeup::Send() noexcept { ev_async_send(loop_->raw(), &watcher_); }

}  // namespace evrelay
