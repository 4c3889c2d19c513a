// producer.allow: what a peer of the producer port may do. Pure; any thread.

#ifndef EVRELAY_PRODUCER_ALLOW_H_
#define EVRELAY_PRODUCER_ALLOW_H_

#include <bitset>
#include <optional>
#include <vector>

#include "codec/request.h"
#include "config/config.h"
#include "net/peer_credentials.h"

namespace evrelay {

// Data frames are `relay` without an answer.
class Permissions {
 public:
  bool Allows(Verb verb) const { return verbs_[static_cast<std::size_t>(verb)]; }
  void Add(Verb verb) { verbs_.set(static_cast<std::size_t>(verb)); }
  void AddAll() { verbs_.set(); }

 private:
  std::bitset<kVerbNames.size()> verbs_;
};

// The union of the rules that match the peer. No rules at all: everything, as who may open the
// socket is then the only rule. A peer that the kernel does not name matches no rule. `ping` is
// always allowed: it shows nothing but that the relay is alive.
Permissions Evaluate(const std::vector<AllowRule>& rules,
                     const std::optional<PeerCredentials>& peer);

}  // namespace evrelay

#endif  // EVRELAY_PRODUCER_ALLOW_H_
