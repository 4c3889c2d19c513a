// SuspendedTable: the requests of producers that wait for a hook to resume them, by index.
//
//   waiting ──Claim──▶ claimed ──Fulfil──▶ (free)      GiveBack: claimed ──▶ waiting
//
// From both states Expire and End lead to free. Of many claims of a request one succeeds. A claim
// holds its request kClaimGrace beyond the deadline at most, as the hook that made it may hang.
//
// Thread safety: Claim and GiveBack may be called on any thread, all others on the loop's. This is
// the one structure that threads share; nothing foreign is called under its mutex.

#ifndef EVRELAY_RELAY_SUSPENDED_TABLE_H_
#define EVRELAY_RELAY_SUSPENDED_TABLE_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "evrelay/ids.h"

namespace evrelay {

// Who gets the final answer to a suspended request. Called on the loop's thread, once for each; it
// must End what it still has before it goes.
class Requester {
 public:
  virtual void OnResumed(SuspendedId request, std::string_view data) noexcept = 0;
  virtual void OnExpired(SuspendedId request) noexcept = 0;

 protected:
  ~Requester() = default;
};

class SuspendedTable {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds kClaimGrace{1};

  SuspendedId Suspend(Requester& requester, Clock::time_point deadline);

  // True: the caller has it, and owes a GiveBack or a verdict that resumes it.
  bool Claim(SuspendedId request) noexcept;
  void GiveBack(SuspendedId request) noexcept;

  // Ends a claimed request; to whom its final answer is due. Null: it has ended before.
  Requester* Fulfil(SuspendedId request);

  // Ends a request whose time is over, if there is one.
  struct Expired {
    SuspendedId request;
    Requester* requester;
  };
  std::optional<Expired> Expire(Clock::time_point now);
  // When Expire is to be called next.
  std::optional<Clock::time_point> NextDeadline() const;

  // Ends a request that waits or is claimed.
  void End(SuspendedId request);

  // Claims that were in vain, ever: too late, twice, or under numbers that are nobody's.
  std::uint64_t refused() const;

  // Waiting and claimed.
  std::size_t size() const { return slots_.size() - free_.size(); }

 private:
  struct Slot {
    enum class State : std::uint8_t { kFree, kWaiting, kClaimed };
    State state = State::kFree;
    bool in_grace = false;    // claimed, and its deadline is over; `deadline` is that of the claim
    std::uint32_t label = 0;  // kFree: the last one
    Requester* requester = nullptr;
    Clock::time_point deadline;
  };
  using Deadline = std::pair<Clock::time_point, std::uint32_t>;  // when, index

  // Null: no such request is there any more. With mutex_ held.
  Slot* Find(SuspendedId request);
  void SetDeadline(std::uint32_t index, Clock::time_point deadline);
  void Free(std::uint32_t index);

  mutable std::mutex mutex_;
  // Guarded by mutex_, as are the next two; but only the loop's thread changes their number.
  std::vector<Slot> slots_;
  std::set<Deadline> deadlines_;  // of all that are not free
  std::uint64_t refused_ = 0;
  std::vector<std::uint32_t> free_;  // the loop's
};

}  // namespace evrelay

#endif  // EVRELAY_RELAY_SUSPENDED_TABLE_H_
