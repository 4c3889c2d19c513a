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

// The requests that wait to be resumed. May be called on any thread.
class Claims {
 public:
  // True to one caller only: what it wants is to be in its verdict, or given back.
  virtual bool Claim(SuspendedId request) noexcept = 0;
  virtual void GiveBack(SuspendedId request) noexcept = 0;

 protected:
  ~Claims() = default;
};

// Values and views that hold for the call.
struct HookEvent {
  HookEventKind kind = HookEventKind::kMessageReceived;
  ConnectionId connection;
  std::string_view srcaddr;  // without brackets; "unix" for Unix sockets
  std::uint16_t srcport = 0;
  std::string_view peer_name;              // what its certificate calls it; empty: nothing
  std::string_view tag;                    // of the connection, as earlier hooks have set it
  std::string_view msg;                    // kMessageReceived
  CloseReason reason = CloseReason::kEof;  // kConnectionClosed
  Claims* claims = nullptr;                // null: no request waits
};

class Hook {
 public:
  virtual ~Hook() = default;

  // Runs for one event. `verdict` is empty before; it counts only when kDone is returned, and is
  // empty after any other outcome: then its claims have been given back. Failures have been logged
  // when this returns.
  virtual HookOutcome Run(const HookEvent& event, Verdict& verdict) noexcept = 0;

  // It has something for this event. Not while it runs.
  virtual bool Hears(HookEventKind) const noexcept { return true; }
};

}  // namespace evrelay

#endif  // EVRELAY_HOOK_HOOK_H_
