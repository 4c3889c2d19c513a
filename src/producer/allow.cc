#include "producer/allow.h"

#include <algorithm>

namespace evrelay {

namespace {

bool Matches(const AllowRule& rule, const PeerCredentials& peer) {
  if (rule.uid && *rule.uid != peer.uid) return false;
  if (!rule.gid || *rule.gid == peer.gid) return true;
  return std::find(peer.groups.begin(), peer.groups.end(), *rule.gid) != peer.groups.end();
}

}  // namespace

Permissions Evaluate(const std::vector<AllowRule>& rules,
                     const std::optional<PeerCredentials>& peer) {
  Permissions permissions;
  permissions.Add(Verb::kPing);
  if (rules.empty()) permissions.AddAll();
  for (const AllowRule& rule : rules) {
    if (!peer || !Matches(rule, *peer)) continue;
    if (rule.verbs.empty()) permissions.AddAll();
    for (const std::string& name : rule.verbs) {
      const auto verb = std::find(kVerbNames.begin(), kVerbNames.end(), name);
      if (verb != kVerbNames.end()) permissions.Add(static_cast<Verb>(verb - kVerbNames.begin()));
    }
  }
  return permissions;
}

}  // namespace evrelay
