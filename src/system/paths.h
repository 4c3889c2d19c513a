// Where the producer socket is when nobody says. Reads the environment; creates nothing.

#ifndef EVRELAY_SYSTEM_PATHS_H_
#define EVRELAY_SYSTEM_PATHS_H_

#include <string>
#include <vector>

namespace evrelay {

// For the daemon: producer.sock in $RUNTIME_DIRECTORY, else in $XDG_RUNTIME_DIR/evrelay, else in
// /run/evrelay.
std::string DefaultSocketPath();

// For clients, in the order to try: $EVRELAY_SOCKET, then producer.sock in
// $XDG_RUNTIME_DIR/evrelay and in /run/evrelay.
std::vector<std::string> ClientSocketCandidates();

}  // namespace evrelay

#endif  // EVRELAY_SYSTEM_PATHS_H_
