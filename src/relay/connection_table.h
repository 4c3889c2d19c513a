// ConnectionTable: conidx → connection. The lowest free conidx is given out first, as evapi does;
// each time with a new generation, so that a name kept too long never finds the slot's next owner.
//
// A conidx may outlive its connection: it stays taken until connection-closed has run.
// Thread safety: none; the loop thread. Owns no connection.

#ifndef EVRELAY_RELAY_CONNECTION_TABLE_H_
#define EVRELAY_RELAY_CONNECTION_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "evrelay/ids.h"

namespace evrelay {

class Connection;

class ConnectionTable {
 public:
  // May throw std::bad_alloc; nothing has changed then.
  ConnectionId Insert(Connection& connection);

  // The connection is gone; its conidx stays taken. Nothing happens when it has been released.
  void Detach(ConnectionId id);
  // The conidx is free.
  void Release(ConnectionId id);

  // Null when that connection is gone, or its conidx has been released.
  Connection* Find(ConnectionId id) const;

  // Null when no connection has that conidx.
  Connection* At(std::uint32_t conidx) const { return slots_[conidx].connection; }

  // The connection with the lowest conidx from this one on; null: there is none.
  Connection* FirstFrom(std::uint32_t conidx) const;

  // Conidxs that are taken though their connection is gone.
  std::size_t detached() const { return detached_; }

 private:
  struct Slot {
    Connection* connection = nullptr;
    std::uint32_t generation = 0;
    bool taken = false;
  };

  std::vector<Slot> slots_;
  std::vector<std::uint32_t> free_;  // a heap, the lowest first; has room for all
  std::size_t detached_ = 0;
};

}  // namespace evrelay

#endif  // EVRELAY_RELAY_CONNECTION_TABLE_H_
