// evrelay status: asks the running daemon over its control socket what it is doing. Blocking, as
// control.h.

#ifndef EVRELAY_CLIENT_STATUS_H_
#define EVRELAY_CLIENT_STATUS_H_

#include <string>

#include "client/streams.h"

namespace evrelay {

struct StatusOptions {
  enum class Format {
    kTable,
    kJson,     // the whole document
    kBalance,  // whether the books balance
  };
  std::string socket{};  // path of the control socket; empty: control.sock beside the producer's
  Format format = Format::kTable;
};

// Prints the answer to standard output, trouble to standard error. Returns the exit code: 0, or 1
// for trouble and for books that do not balance.
int RunStatus(const StatusOptions& options, const Streams& streams = {});

}  // namespace evrelay

#endif  // EVRELAY_CLIENT_STATUS_H_
