// Of the hub: requests that wait for a hook's answer.

#include "relay/hub.h"

namespace evrelay {

SuspendedId Hub::Suspend(Requester& requester, std::chrono::milliseconds timeout) {
  const SuspendedId request = suspended_.Suspend(requester, Clock::now() + timeout);
  ++counters_.async.suspended;
  ScheduleExpiry();
  return request;
}

void Hub::Resume(const action::Resume& resume) {
  Requester* requester = suspended_.Fulfil(resume.request);
  if (requester == nullptr) {
    ++counters_.hook.stale_actions;
    return;
  }
  ++counters_.async.resumed;
  requester->OnResumed(resume.request, resume.evdata);
}

void Hub::OnExpiry() noexcept {
  while (const auto expired = suspended_.Expire(Clock::now())) {
    ++counters_.async.expired;
    expired->requester->OnExpired(expired->request);
  }
  ScheduleExpiry();
}

// The timer may be early, as requests end before their deadlines, but never late.
void Hub::ScheduleExpiry() {
  const auto next = suspended_.NextDeadline();
  if (!next || (expiry_.scheduled() && expiry_at_ <= *next)) return;
  expiry_at_ = *next;
  expiry_.Schedule(*next - Clock::now());
}

}  // namespace evrelay
