// evrelay clients: asks the running relay over its control socket who is connected. Blocking, as
// control.h.

#ifndef EVRELAY_CLIENT_CLIENTS_H_
#define EVRELAY_CLIENT_CLIENTS_H_

#include <string>

#include "client/streams.h"

namespace evrelay {

struct ClientsOptions {
  std::string socket{};  // path of the control socket; empty: control.sock beside the producer's
  bool json = false;     // one JSON object a line instead of the table
};

// Prints the connections to standard output, trouble to standard error. Returns the exit code, 0
// or 1.
int RunClients(const ClientsOptions& options, const Streams& streams = {});

}  // namespace evrelay

#endif  // EVRELAY_CLIENT_CLIENTS_H_
