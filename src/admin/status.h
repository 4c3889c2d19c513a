// The answer to `status`: what the relay is doing, and every counter by reason, as JSON.

#ifndef EVRELAY_ADMIN_STATUS_H_
#define EVRELAY_ADMIN_STATUS_H_

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "metrics/counters.h"
#include "relay/hub.h"

namespace evrelay {

// What the parts below cannot tell themselves.
struct StatusFacts {
  std::chrono::steady_clock::duration uptime{};
  std::string_view state;  // running, draining
  std::vector<std::string> listen;
  std::string producer_socket;
  std::string control_socket;
  std::size_t producers = 0;  // connected
  std::string script;
  std::size_t workers = 0;
  std::size_t stuck_workers = 0;
};

// Looks at every subscriber. On the loop thread.
std::string StatusJson(const StatusFacts& facts, const Counters& counters, Hub& hub);

}  // namespace evrelay

#endif  // EVRELAY_ADMIN_STATUS_H_
