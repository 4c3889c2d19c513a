// Cursor: a reader's place in the broadcast log. Pinned to a segment while the reader is behind;
// else the reader stands at the log's mark(). Moved by the log alone.

#ifndef EVRELAY_FANOUT_CURSOR_H_
#define EVRELAY_FANOUT_CURSOR_H_

#include <cassert>
#include <cstdint>

#include "fanout/segment.h"

namespace evrelay {

class Cursor {
 public:
  Cursor() = default;
  Cursor(const Cursor&) = delete;
  Cursor& operator=(const Cursor&) = delete;
  ~Cursor() {
    if (segment_ != nullptr) --segment_->pins;
  }

  bool pinned() const { return segment_ != nullptr; }

 private:
  friend class BroadcastLog;

  void MoveTo(Segment* segment, std::uint32_t offset) {
    if (segment != nullptr) ++segment->pins;
    if (segment_ != nullptr) --segment_->pins;
    segment_ = segment;
    offset_ = offset;
  }

  Segment* segment_ = nullptr;
  std::uint32_t offset_ = 0;
};

}  // namespace evrelay

#endif  // EVRELAY_FANOUT_CURSOR_H_
