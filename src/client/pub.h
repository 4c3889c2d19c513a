// evrelay pub: hands events to the relay over the producer socket. Blocking; called by main in a
// process of its own, with nothing else running.

#ifndef EVRELAY_CLIENT_PUB_H_
#define EVRELAY_CLIENT_PUB_H_

#include <string>
#include <vector>

#include "client/streams.h"

namespace evrelay {

struct PubOptions {
  std::string socket{};             // path of the producer socket; empty: the default, see client.h
  bool ack = false;                 // send relay requests and check every answer
  bool netstring = false;           // standard input holds data frames, not lines
  std::vector<std::string> data{};  // one event each; empty: standard input
};

// Sends everything, prints trouble to standard error. Returns the exit code: 0 when the relay took
// all of it (with `ack`: answered each event ok), 2 for an empty event in `data`, else 1.
int RunPub(const PubOptions& options, const Streams& streams = {});

}  // namespace evrelay

#endif  // EVRELAY_CLIENT_PUB_H_
