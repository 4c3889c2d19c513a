// evrelay sub: shows what the relay sends to its subscribers. Blocking; called by main in a process
// of its own, with nothing else running.

#ifndef EVRELAY_CLIENT_SUB_H_
#define EVRELAY_CLIENT_SUB_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "client/streams.h"
#include "net/tls.h"

namespace evrelay {

struct SubOptions {
  enum class Format {
    kText,       // one event a line; on a terminal with the time, control bytes escaped
    kJson,       // one JSON object a line
    kRaw,        // the payload bytes and nothing between them
    kNetstring,  // frames, as they came
  };

  std::string address = "127.0.0.1:8448";  // host:port, [v6]:port or unix:/path
  std::optional<std::uint64_t> count{};    // end after so many events
  Format format = Format::kText;
  std::vector<std::string> send{};  // messages to the relay, sent once connected
  std::optional<TlsClientConfig> tls{};
  std::string server_name{};  // that the relay's certificate is for; empty: the address's host
};

// Runs until `count` events were written, SIGINT or SIGTERM asks it to end, standard output is
// gone, or the relay closes. Ignores SIGPIPE from then on. Returns the exit code: 2 for a
// malformed `address`, an empty message in `send` or files that TLS cannot use, 1 if the relay
// closed first or a call failed, else 0.
int RunSub(const SubOptions& options, const Streams& streams = {});

}  // namespace evrelay

#endif  // EVRELAY_CLIENT_SUB_H_
