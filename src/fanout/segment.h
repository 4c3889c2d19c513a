// Segment: a piece of the broadcast log. Bytes are only ever added, below kSize.

#ifndef EVRELAY_FANOUT_SEGMENT_H_
#define EVRELAY_FANOUT_SEGMENT_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "evrelay/ids.h"

namespace evrelay {

struct Segment {
  static constexpr std::uint32_t kSize = 512 * 1024;
  static constexpr std::uint32_t kNone = UINT32_MAX;

  Segment* next = nullptr;
  Position base = 0;  // position of data[0]
  std::uint32_t used = 0;
  std::uint32_t pins = 0;             // cursors that stand here
  std::uint32_t first_frame = kNone;  // offset of the first frame that starts here
  std::uint64_t first_ordinal = 0;    // and that frame's ordinal
  std::vector<std::uint32_t> starts;  // raw format only: offsets of all frames that start here
  // Begins on a page, as what the kernel copies to does.
  alignas(4096) char data[kSize];

  Position end() const { return base + used; }
};

}  // namespace evrelay

#endif  // EVRELAY_FANOUT_SEGMENT_H_
