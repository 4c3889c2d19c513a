#include "relay/connection_table.h"

#include <cassert>

namespace evrelay {

ConnectionId ConnectionTable::Insert(Connection& connection) {
  std::uint32_t conidx;
  if (free_.empty()) {
    conidx = static_cast<std::uint32_t>(slots_.size());
    slots_.emplace_back();
  } else {
    conidx = free_.top();
    free_.pop();
  }
  Slot& slot = slots_[conidx];
  slot.connection = &connection;
  ++slot.generation;
  return {conidx, slot.generation};
}

void ConnectionTable::Erase(ConnectionId id) {
  assert(Find(id) != nullptr);
  slots_[id.conidx].connection = nullptr;
  free_.push(id.conidx);
}

Connection* ConnectionTable::Find(ConnectionId id) const {
  if (id.conidx >= slots_.size()) return nullptr;
  const Slot& slot = slots_[id.conidx];
  return slot.generation == id.generation ? slot.connection : nullptr;
}

}  // namespace evrelay
