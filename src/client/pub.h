// evrelay pub: hands events to the relay over the producer socket. Blocking; called by main in a
// process of its own, with nothing else running.

#ifndef EVRELAY_CLIENT_PUB_H_
#define EVRELAY_CLIENT_PUB_H_

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "client/streams.h"

namespace evrelay {

struct PubOptions {
  std::string socket{};     // path of the producer socket; empty: the default, see client.h
  std::string multicast{};  // for all subscribers with this tag; empty: no tag, for everybody
  std::string unicast{};    // for the first subscriber with this tag; at most one of the two
  bool async = false;       // suspend each event's request until a hook resumes it
  std::optional<std::chrono::milliseconds> timeout{};  // of async; none: the relay's
  bool ack = false;                                    // have every event answered
  bool netstring = false;           // standard input holds data frames, not lines; so does output
  std::vector<std::string> data{};  // one event each; empty: standard input

  // Requests are sent and their answers checked, not bare data frames.
  bool requests() const { return ack || async || !multicast.empty() || !unicast.empty(); }
};

// Sends everything, writes what hooks answer to standard output (async), prints trouble to standard
// error. Ignores SIGPIPE from then on. Returns the exit code: 0 when the relay took all of it (with
// requests: answered each event ok; async: each was resumed), 2 for an empty event in `data`,
// else 1.
int RunPub(const PubOptions& options, const Streams& streams = {});

}  // namespace evrelay

#endif  // EVRELAY_CLIENT_PUB_H_
