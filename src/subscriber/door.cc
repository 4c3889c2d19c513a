#include "subscriber/door.h"

#include <algorithm>
#include <utility>

#include "logging/log.h"
#include "subscriber/for_log.h"

namespace evrelay {

Door::Door(Loop& loop, UniqueFd listening, std::string name, DoorRules rules, Counters& counters,
           Handler& handler)
    : rules_(std::move(rules)),
      counters_(counters),
      handler_(handler),
      listener_(loop, std::move(listening), *this, std::move(name)) {}

void Door::OnAccept(UniqueFd fd, const SocketAddress& peer) noexcept {
  if (Allows(peer)) {
    handler_.OnArrival(*this, std::move(fd), peer);
    return;
  }
  ++counters_.subscribers.refused[RefuseReason::kNotAllowed];
  static LogLimit limit;
  LogWarnLimited(limit, "subscriber", "{} is turned away: {} does not allow its address",
                 ForLog(peer), name());
}

void Door::OnAcceptShed() noexcept { ++counters_.subscribers.refused[RefuseReason::kNoFiles]; }

bool Door::Allows(const SocketAddress& peer) const {
  const std::vector<Network>& allow = rules_.config.allow;
  return allow.empty() ||
         std::ranges::any_of(allow, [&](const Network& n) { return peer.Within(n); });
}

}  // namespace evrelay
