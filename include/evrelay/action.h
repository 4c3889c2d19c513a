// What a script wants done: a Verdict, an ordered list of Actions. It is built in one place (the
// hook), carried across threads as a value, and executed in another (the hub), in order, in one
// turn of the loop; if the hook fails it is dropped whole.
//
// Thread safety: plain values; whoever holds one.

#ifndef EVRELAY_ACTION_H_
#define EVRELAY_ACTION_H_

#include <cstddef>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "evrelay/ids.h"

namespace evrelay {

namespace action {

// Events are bytes, never empty.
struct Relay {
  std::string evdata;
};
struct Multicast {
  std::string evdata;
  std::string etag;
};
struct Unicast {  // to the lowest conidx that has the tag
  std::string evdata;
  std::string etag;
};
// Ends the suspended request that the hook has claimed; its producer gets the data.
struct Resume {
  SuspendedId request;
  std::string evdata;
};
// These concern the connection whose event the hook ran for.
struct Reply {
  std::string evdata;
};
struct Close {};
struct SetTag {
  std::string etag;  // empty: it has none from now on
};

}  // namespace action

using Action = std::variant<action::Relay, action::Multicast, action::Unicast, action::Resume,
                            action::Reply, action::Close, action::SetTag>;

// Bytes that a tag may have.
inline constexpr std::size_t kMaxTag = 63;

// Invariants: at most kMaxActions actions with at most kMaxBytes of events and tags together; no
// action follows a Close.
class Verdict {
 public:
  static constexpr std::size_t kMaxActions = 1024;
  static constexpr std::size_t kMaxBytes = 4 * 1024 * 1024;

  // False: `action`, which carries `bytes` of events and tags, may not be added; nothing changes.
  // (A template, as g++ 12 sees uninitialized strings where an Action that it knows to be a Close
  // is moved.)
  template <class A>
  bool Add(A action, std::size_t bytes) {
    if (closes_ || !HasRoomFor(bytes)) return false;
    actions_.emplace_back(std::move(action));
    bytes_ += bytes;
    closes_ = std::holds_alternative<action::Close>(actions_.back());
    return true;
  }
  bool HasRoomFor(std::size_t bytes) const {
    return actions_.size() < kMaxActions && bytes <= kMaxBytes - bytes_;
  }

  const std::vector<Action>& actions() const { return actions_; }
  bool empty() const { return actions_.empty(); }
  // Of events and tags.
  std::size_t bytes() const { return bytes_; }
  // It ends with a Close.
  bool closes() const { return closes_; }

  void Clear() {
    actions_.clear();
    bytes_ = 0;
    closes_ = false;
  }

 private:
  std::vector<Action> actions_;
  std::size_t bytes_ = 0;
  bool closes_ = false;
};

}  // namespace evrelay

#endif  // EVRELAY_ACTION_H_
