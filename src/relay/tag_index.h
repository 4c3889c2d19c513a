// TagIndex: tag → the conidxs that have it, lowest first, so that multicast costs its members and
// unicast one look-up. A connection has one tag at most. Thread safety: none; the loop thread.

#ifndef EVRELAY_RELAY_TAG_INDEX_H_
#define EVRELAY_RELAY_TAG_INDEX_H_

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace evrelay {

class TagIndex {
 public:
  using Members = std::set<std::uint32_t>;

  // `conidx` has this tag from now on, in place of the one it had; empty: it has none.
  void Set(std::uint32_t conidx, std::string_view tag);

  // Null when nobody has the tag. Holds until the next Set.
  const Members* Find(std::string_view tag) const;

  // The tag of `conidx`, empty when it has none. Holds as long.
  std::string_view tag_of(std::uint32_t conidx) const;

  // Tags in use.
  std::size_t size() const { return tags_.size(); }

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view tag) const {
      return std::hash<std::string_view>()(tag);
    }
  };
  using Tags = std::unordered_map<std::string, Members, Hash, std::equal_to<>>;

  Tags tags_;
  std::vector<Tags::value_type*> tag_of_;  // by conidx; null: none. Elements of a map never move.
};

}  // namespace evrelay

#endif  // EVRELAY_RELAY_TAG_INDEX_H_
