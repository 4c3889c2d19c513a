#include "net/peer_counts.h"

#include <cassert>

namespace evrelay {

PeerCounts::~PeerCounts() { assert(counts_.empty()); }

std::optional<PeerCounts::Place> PeerCounts::Take(const SocketAddress& peer, std::uint32_t most) {
  if (peer.is_unix()) return Place(nullptr, GiveBack{&counts_});
  Counts::value_type& entry = *counts_.try_emplace(peer.WithoutPort(), 0).first;
  // One that is there already has a place, so `most` cannot leave an entry of 0 behind.
  if (most != 0 && entry.second >= most) return std::nullopt;
  ++entry.second;
  return Place(&entry, GiveBack{&counts_});
}

void PeerCounts::GiveBack::operator()(Counts::value_type* entry) const noexcept {
  if (--entry->second == 0) counts->erase(entry->first);
}

}  // namespace evrelay
