// ConnectionTable: conidx → live connection. The lowest free conidx is given out first, as evapi
// does; each time with a new generation, so that a name kept too long never finds the slot's next
// owner. Thread safety: none; the loop thread. Owns no connection.

#ifndef EVRELAY_RELAY_CONNECTION_TABLE_H_
#define EVRELAY_RELAY_CONNECTION_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <queue>
#include <vector>

#include "evrelay/ids.h"

namespace evrelay {

class Connection;

class ConnectionTable {
 public:
  ConnectionId Insert(Connection& connection);
  void Erase(ConnectionId id);

  // Null when that connection is gone.
  Connection* Find(ConnectionId id) const;

  std::size_t size() const { return slots_.size() - free_.size(); }

 private:
  struct Slot {
    Connection* connection = nullptr;
    std::uint32_t generation = 0;
  };

  std::vector<Slot> slots_;
  std::priority_queue<std::uint32_t, std::vector<std::uint32_t>, std::greater<>> free_;
};

}  // namespace evrelay

#endif  // EVRELAY_RELAY_CONNECTION_TABLE_H_
