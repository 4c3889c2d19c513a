// ForLog: words for a line of the log, in callbacks that must not throw; empty when there is no
// memory for them. Any thread.

#ifndef EVRELAY_SUBSCRIBER_FOR_LOG_H_
#define EVRELAY_SUBSCRIBER_FOR_LOG_H_

#include <new>
#include <string>
#include <string_view>

#include "logging/escaped.h"
#include "net/address.h"

namespace evrelay {

inline std::string ForLog(const SocketAddress& peer) noexcept try {
  return peer.ToString();
} catch (const std::bad_alloc&) {
  return {};
}

// `words` as a single line.
inline std::string ForLog(std::string_view words) noexcept try {
  return OneLine(words);
} catch (const std::bad_alloc&) {
  return {};
}

}  // namespace evrelay

#endif  // EVRELAY_SUBSCRIBER_FOR_LOG_H_
