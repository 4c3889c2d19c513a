// Command: what a worker tells the hub after a hook has run (or after it has thrown messages away):
// one verdict, and how much of the connection's input is done with.
// A value; crosses from a worker to the loop in the Mailbox.

#ifndef EVRELAY_RELAY_COMMAND_H_
#define EVRELAY_RELAY_COMMAND_H_

#include <cstddef>
#include <cstdint>

#include "evrelay/action.h"
#include "evrelay/ids.h"
#include "metrics/reasons.h"

namespace evrelay {

struct Command {
  ConnectionId connection;
  HookEventKind event = HookEventKind::kMessageReceived;
  HookOutcome outcome = HookOutcome::kDone;  // of the one hook whose verdict this is
  Verdict verdict;                           // empty unless kDone

  // Messages of this connection that are done with since its last command, the one of this verdict
  // included, and their payload bytes. `runs` of them went through a hook; the others were dropped:
  // no route or script is there to hear them, or the connection had been closed by a hook.
  std::uint32_t messages = 0;
  std::uint64_t bytes = 0;
  std::uint32_t runs = 0;
  std::uint32_t dropped_no_hook = 0;
  std::uint32_t dropped_after_close = 0;

  // What it takes of the mailbox, in bytes.
  std::size_t size() const {
    return sizeof(Command) + verdict.actions().size() * sizeof(Action) + verdict.bytes();
  }
};

}  // namespace evrelay

#endif  // EVRELAY_RELAY_COMMAND_H_
