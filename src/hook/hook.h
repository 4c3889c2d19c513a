// Hook: decides what an event of a subscriber's connection is to lead to. A function of the event
// (and of what the script keeps in its globals): no threads, no sockets, no hub behind it.
// Thread safety: none; each worker has its own.

#ifndef EVRELAY_HOOK_HOOK_H_
#define EVRELAY_HOOK_HOOK_H_

#include <cstdint>
#include <string_view>

#include "evrelay/action.h"
#include "evrelay/ids.h"
#include "metrics/reasons.h"

namespace evrelay {

// Values and views that hold for the call.
struct HookEvent {
  HookEventKind kind = HookEventKind::kMessageReceived;
  ConnectionId connection;
  std::string_view srcaddr;  // without brackets; "unix" for Unix sockets
  std::uint16_t srcport = 0;
  std::string_view tag;                    // of the connection, as earlier hooks have set it
  std::string_view msg;                    // kMessageReceived
  CloseReason reason = CloseReason::kEof;  // kConnectionClosed
};

class Hook {
 public:
  virtual ~Hook() = default;

  // Runs for one event. `verdict` is empty before; it counts only when kDone is returned, and is
  // empty after any other outcome. Failures have been logged when this returns.
  virtual HookOutcome Run(const HookEvent& event, Verdict& verdict) noexcept = 0;

  // It has something for this event. Not while it runs.
  virtual bool Hears(HookEventKind) const noexcept { return true; }
};

}  // namespace evrelay

#endif  // EVRELAY_HOOK_HOOK_H_
