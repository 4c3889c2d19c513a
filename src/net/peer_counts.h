// PeerCounts: how many connections each IP address has, whatever its ports and our listeners. An
// IPv6 address is counted by itself, not with its network. Unix peers are not counted.
//
// A Place is one connection's share of the count, given back when it is destroyed. Whoever holds
// the connection's socket holds it: from the accept to the close.
// Memory: one entry for each address that has a place. Thread safety: none; the loop thread.

#ifndef EVRELAY_NET_PEER_COUNTS_H_
#define EVRELAY_NET_PEER_COUNTS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>

#include "net/address.h"

namespace evrelay {

class PeerCounts {
  // Ordered, so that nobody can choose addresses that make it slow.
  using Counts = std::map<SocketAddress, std::uint32_t>;
  struct GiveBack {
    Counts* counts;
    void operator()(Counts::value_type* entry) const noexcept;
  };

 public:
  // Movable; empty for a Unix peer. Must not outlive the counts.
  using Place = std::unique_ptr<Counts::value_type, GiveBack>;

  PeerCounts() = default;
  PeerCounts(const PeerCounts&) = delete;
  PeerCounts& operator=(const PeerCounts&) = delete;
  ~PeerCounts();

  // None: the peer's address has `most` places already. 0: any number.
  std::optional<Place> Take(const SocketAddress& peer, std::uint32_t most);

  // Addresses that have a place.
  std::size_t addresses() const { return counts_.size(); }

 private:
  Counts counts_;
};

}  // namespace evrelay

#endif  // EVRELAY_NET_PEER_COUNTS_H_
