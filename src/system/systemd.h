// What systemd passes to a service and wants to hear from it. Without systemd everything here is
// empty or without effect. Called by the daemon, from the main thread.

#ifndef EVRELAY_SYSTEM_SYSTEMD_H_
#define EVRELAY_SYSTEM_SYSTEMD_H_

#include <chrono>
#include <optional>
#include <string_view>
#include <vector>

#include "util/unique_fd.h"

namespace evrelay {

// Listening stream sockets, non-blocking and close-on-exec.
struct ActivatedSockets {
  std::vector<UniqueFd> subscriber;
  UniqueFd producer;  // a Unix socket, or none
};

// The sockets of LISTEN_FDS, told apart by their names "subscriber" and "producer". Takes the
// variables out of the environment, so only the first call finds anything. Throws
// std::runtime_error for a socket that evrelay has no use for.
ActivatedSockets TakeActivatedSockets();

// Sends lines like "READY=1" or "STATUS=…" to the supervisor. Never waits. False: the supervisor's
// queue is full; the state is not told. True too where nobody asked to be notified.
bool NotifySystemd(std::string_view state) noexcept;

// After how long without "WATCHDOG=1" systemd takes the service for dead; none: it does not.
std::optional<std::chrono::microseconds> WatchdogInterval();

}  // namespace evrelay

#endif  // EVRELAY_SYSTEM_SYSTEMD_H_
