// Names for things that live on one thread and are spoken of on another.

#ifndef EVRELAY_IDS_H_
#define EVRELAY_IDS_H_

#include <compare>
#include <cstdint>

namespace evrelay {

// A subscriber connection: its slot (the conidx users see, lowest free first) and how often that
// slot has been given out. A name kept past the connection's end never matches the slot's next
// owner.
struct ConnectionId {
  std::uint32_t conidx = 0;
  std::uint32_t generation = 0;

  friend bool operator==(const ConnectionId&, const ConnectionId&) = default;
};

// A suspended request: its slot (INDEX on the wire) and the random number (LABEL, never 0) that
// tells it from all others that have had the slot.
struct SuspendedId {
  std::uint32_t index = 0;
  std::uint32_t label = 0;

  friend bool operator==(const SuspendedId&, const SuspendedId&) = default;
};

// A place in the broadcast log: bytes relayed since the start. Only grows.
using Position = std::uint64_t;

}  // namespace evrelay

#endif  // EVRELAY_IDS_H_
