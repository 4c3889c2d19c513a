// The commands that change the running relay: evrelay close, reload and drain. Each asks over the
// control socket, waits until it is done and says nothing when it is. Blocking, as control.h.

#ifndef EVRELAY_CLIENT_OPERATE_H_
#define EVRELAY_CLIENT_OPERATE_H_

#include <cstdint>
#include <string>

#include "client/streams.h"

namespace evrelay {

// In all of them `socket` is the path of the control socket; empty: control.sock beside the
// producer's.

struct CloseOptions {
  std::string socket{};
  std::uint32_t conidx = 0;
};

struct ReloadOptions {
  std::string socket{};
};

struct DrainOptions {
  std::string socket{};
};

// Trouble goes to standard error. They return the exit code, 0 or 1.
int RunClose(const CloseOptions& options, const Streams& streams = {});
// Waits for the end of the reload.
int RunReload(const ReloadOptions& options, const Streams& streams = {});
// Waits for the end of the relay's process; the relay's `drain` bounds that.
int RunDrain(const DrainOptions& options, const Streams& streams = {});

}  // namespace evrelay

#endif  // EVRELAY_CLIENT_OPERATE_H_
