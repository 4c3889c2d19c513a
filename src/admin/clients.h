// The answer to `clients`: who is connected and how each is doing, as JSON, a part at a time.

#ifndef EVRELAY_ADMIN_CLIENTS_H_
#define EVRELAY_ADMIN_CLIENTS_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "relay/hub.h"

namespace evrelay {

// At most `most` connections from conidx `from` on, and where to go on: the next conidx, or null
// when these were the last. On the loop thread.
std::string ClientsJson(const Hub& hub, std::uint32_t from, std::size_t most);

}  // namespace evrelay

#endif  // EVRELAY_ADMIN_CLIENTS_H_
