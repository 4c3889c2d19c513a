#include <optional>
#include <string>
#include <vector>

#include "producer/allow.h"
#include "support/catch.h"

namespace evrelay {
namespace {

constexpr uid_t kUser = 1000;
constexpr gid_t kGroup = 100;
constexpr gid_t kSecond = 27;
constexpr gid_t kForeign = 4;

AllowRule Rule(std::optional<uid_t> uid, std::optional<gid_t> gid,
               std::vector<std::string> verbs = {}) {
  return {uid, gid, std::move(verbs)};
}

PeerCredentials Somebody() {
  PeerCredentials peer{};
  peer.pid = 4711;
  peer.uid = kUser;
  peer.gid = kGroup;
  peer.groups = {kGroup, kSecond};
  return peer;
}

}  // namespace

TEST_CASE("allow: without rules everyone may do everything") {
  CHECK(Evaluate({}, Somebody()).Allows(Verb::kRelay));
  CHECK(Evaluate({}, std::nullopt).Allows(Verb::kRelay));
}

TEST_CASE("allow: ping is always allowed") {
  CHECK(Evaluate({}, std::nullopt).Allows(Verb::kPing));
  CHECK(Evaluate({Rule(kUser + 1, {})}, Somebody()).Allows(Verb::kPing));
  CHECK(Evaluate({Rule(kUser, {}, {"relay"})}, Somebody()).Allows(Verb::kPing));
  CHECK(Evaluate({Rule(kUser, {})}, std::nullopt).Allows(Verb::kPing));
}

TEST_CASE("allow: every id that a rule names must be the peer's") {
  struct Cell {
    AllowRule rule;
    bool relay;
  };
  const auto cell = GENERATE(values<Cell>({
      {Rule(kUser, {}), true},
      {Rule(kUser + 1, {}), false},
      {Rule(0, {}), false},
      {Rule({}, kGroup), true},
      {Rule({}, kSecond), true},
      {Rule({}, kForeign), false},
      {Rule(kUser, kGroup), true},
      {Rule(kUser, kSecond), true},
      {Rule(kUser, kForeign), false},
      {Rule(kUser + 1, kGroup), false},
      {Rule({}, {}), true},
      {Rule(kUser, {}, {"relay"}), true},
      {Rule(kUser, {}, {"relay", "ping"}), true},
      {Rule(kUser, {}, {"ping"}), false},
      {Rule(kUser, {}, {"no such verb"}), false},
      {Rule(kUser + 1, {}, {"relay"}), false},
  }));
  CHECK(Evaluate({cell.rule}, Somebody()).Allows(Verb::kRelay) == cell.relay);
  // A peer that the kernel does not name matches nothing.
  CHECK_FALSE(Evaluate({cell.rule}, std::nullopt).Allows(Verb::kRelay));
}

TEST_CASE("allow: a rule gives the verbs that it names, and no other") {
  for (std::size_t named = 0; named < kVerbNames.size(); ++named) {
    const Permissions permissions =
        Evaluate({Rule(kUser, {}, {std::string(kVerbNames[named])})}, Somebody());
    for (std::size_t i = 0; i < kVerbNames.size(); ++i) {
      const Verb verb = static_cast<Verb>(i);
      CAPTURE(Name(verb), kVerbNames[named]);
      CHECK(permissions.Allows(verb) == (i == named || verb == Verb::kPing));
    }
  }
}

TEST_CASE("allow: a rule without verbs gives all, as no rules do") {
  for (const auto& permissions :
       {Evaluate({}, std::nullopt), Evaluate({Rule(kUser, {})}, Somebody())}) {
    for (std::size_t i = 0; i < kVerbNames.size(); ++i) {
      CHECK(permissions.Allows(static_cast<Verb>(i)));
    }
  }
}

TEST_CASE("allow: the primary group counts though it is not among the supplementary ones") {
  PeerCredentials peer = Somebody();
  peer.groups = {};
  CHECK(Evaluate({Rule({}, kGroup)}, peer).Allows(Verb::kRelay));
  CHECK_FALSE(Evaluate({Rule({}, kSecond)}, peer).Allows(Verb::kRelay));
}

TEST_CASE("allow: the rules that match are added up") {
  const std::vector<AllowRule> rules{Rule(kUser + 1, {}), Rule(kUser, {}, {"async_unicast"}),
                                     Rule({}, kSecond, {"relay", "unicast"})};
  CHECK(Evaluate(rules, Somebody()).Allows(Verb::kRelay));
  CHECK(Evaluate(rules, Somebody()).Allows(Verb::kUnicast));
  CHECK(Evaluate(rules, Somebody()).Allows(Verb::kAsyncUnicast));
  CHECK_FALSE(Evaluate(rules, Somebody()).Allows(Verb::kAsyncRelay));
  PeerCredentials other = Somebody();
  other.groups = {};
  CHECK_FALSE(Evaluate(rules, other).Allows(Verb::kRelay));
}

}  // namespace evrelay
