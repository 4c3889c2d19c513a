#include "relay/connection_table.h"

#include <algorithm>
#include <cassert>
#include <functional>

namespace evrelay {

ConnectionId ConnectionTable::Insert(Connection& connection) {
  std::uint32_t conidx;
  if (free_.empty()) {
    conidx = static_cast<std::uint32_t>(slots_.size());
    if (slots_.size() == slots_.capacity()) slots_.reserve(std::max<std::size_t>(2 * conidx, 64));
    free_.reserve(slots_.capacity());
    slots_.emplace_back();
  } else {
    std::ranges::pop_heap(free_, std::greater());
    conidx = free_.back();
    free_.pop_back();
  }
  Slot& slot = slots_[conidx];
  slot.connection = &connection;
  slot.taken = true;
  ++slot.generation;
  return {conidx, slot.generation};
}

void ConnectionTable::Detach(ConnectionId id) {
  if (Find(id) == nullptr) return;
  slots_[id.conidx].connection = nullptr;
  ++detached_;
}

void ConnectionTable::Release(ConnectionId id) {
  Slot& slot = slots_.at(id.conidx);
  assert(slot.taken && slot.generation == id.generation);
  if (slot.connection == nullptr) --detached_;
  slot.connection = nullptr;
  slot.taken = false;
  free_.push_back(id.conidx);
  std::ranges::push_heap(free_, std::greater());
}

Connection* ConnectionTable::Find(ConnectionId id) const {
  if (id.conidx >= slots_.size()) return nullptr;
  const Slot& slot = slots_[id.conidx];
  return slot.generation == id.generation ? slot.connection : nullptr;
}

Connection* ConnectionTable::FirstFrom(std::uint32_t conidx) const {
  for (std::size_t at = conidx; at < slots_.size(); ++at) {
    if (slots_[at].connection != nullptr) return slots_[at].connection;
  }
  return nullptr;
}

}  // namespace evrelay
