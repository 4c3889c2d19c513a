#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <string>

#include "relay/tag_index.h"
#include "support/catch.h"

namespace evrelay {

TEST_CASE("tag index: sets, replaces and clears") {
  TagIndex tags;
  CHECK(tags.Find("a") == nullptr);
  tags.Set(3, "a");
  tags.Set(1, "a");
  tags.Set(2, "b");
  REQUIRE(tags.Find("a") != nullptr);
  CHECK(*tags.Find("a") == std::set<std::uint32_t>{1, 3});
  tags.Set(1, "b");
  CHECK(*tags.Find("a") == std::set<std::uint32_t>{3});
  CHECK(*tags.Find("b") == std::set<std::uint32_t>{1, 2});
  CHECK(tags.tag_of(0).empty());
  CHECK(tags.tag_of(1) == "b");
  CHECK(tags.tag_of(3) == "a");
  CHECK(tags.tag_of(4).empty());
  tags.Set(3, "");
  CHECK(tags.tag_of(3).empty());
  CHECK(tags.Find("a") == nullptr);
  tags.Set(9, "");
  CHECK(tags.size() == 1);
}

TEST_CASE("tag index: tags are bytes, matched exactly") {
  TagIndex tags;
  const std::string with_nul("a\0b", 3);
  tags.Set(0, with_nul);
  CHECK(tags.Find("a") == nullptr);
  CHECK(tags.Find("A") == nullptr);
  CHECK(tags.Find(with_nul) != nullptr);
}

TEST_CASE("tag index: random use against a model") {
  const auto seed = GENERATE(range(1U, 11U));
  CAPTURE(seed);
  std::mt19937 random(seed);
  TagIndex tags;
  std::map<std::uint32_t, std::string> model;
  bool good = true;
  for (int step = 0; step < 3000; ++step) {
    const std::uint32_t conidx = random() % 20;
    const std::uint32_t pick = random() % 5;
    const std::string tag = pick == 0 ? "" : "tag" + std::to_string(pick);
    tags.Set(conidx, tag);
    model[conidx] = tag;
    std::map<std::string, std::set<std::uint32_t>> wanted;
    for (const auto& [who, what] : model) {
      if (!what.empty()) wanted[what].insert(who);
    }
    good = good && tags.size() == wanted.size();
    for (const auto& [what, members] : wanted) {
      good = good && tags.Find(what) != nullptr && *tags.Find(what) == members;
    }
  }
  CHECK(good);
}

}  // namespace evrelay
