// evrelay status: asks the running daemon over its control socket what it is doing. Blocking;
// called by main in a process of its own, with nothing else running.

#ifndef EVRELAY_CLIENT_STATUS_H_
#define EVRELAY_CLIENT_STATUS_H_

#include <string>

#include "client/streams.h"

namespace evrelay {

struct StatusOptions {
  std::string socket{};  // path of the control socket; empty: control.sock beside the producer's
  bool json = false;     // print the document instead of the table
};

// Prints the answer to standard output, trouble to standard error. Returns the exit code, 0 or 1.
int RunStatus(const StatusOptions& options, const Streams& streams = {});

}  // namespace evrelay

#endif  // EVRELAY_CLIENT_STATUS_H_
