// Board: what the test wants to go wrong in the process under test, and what came of it. A file
// that both map; the environment variable EVRELAY_FAULTS names it. tests/support/faults.py lays it
// out and is the other side.
//
// The first entry is the board's own; each further one stands for a kind of call, by its name.
// Calls `first` to `last` of that kind, counted from 1 since the test has last set the count to 0,
// fail.
//
// Any thread.

#ifndef EVRELAY_TESTS_FAULTS_BOARD_H_
#define EVRELAY_TESTS_FAULTS_BOARD_H_

#include <atomic>
#include <cstdint>
#include <string_view>

namespace faults {

struct Entry {
  char name[16];
  std::atomic<std::uint64_t> calls;
  std::atomic<std::uint64_t> first;
  std::atomic<std::uint64_t> last;  // 0: none fails
  std::atomic<std::uint64_t> failed;
  std::atomic<std::int64_t> value;  // errno; of the board's own: nanoseconds that the clock is off
  char padding[8];
};
static_assert(sizeof(Entry) == 64);

// Null: the test has no such entry, or there is no board.
Entry* Find(std::string_view name) noexcept;

// Counts one call. True: it is to fail.
inline bool Fails(Entry* entry) noexcept {
  if (entry == nullptr) return false;
  const std::uint64_t call = ++entry->calls;
  if (call < entry->first || call > entry->last) return false;
  ++entry->failed;
  return true;
}

}  // namespace faults

#endif  // EVRELAY_TESTS_FAULTS_BOARD_H_
