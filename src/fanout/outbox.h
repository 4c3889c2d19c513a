// Outbox: what one subscriber is still to be sent, in one order: the broadcast log from its cursor
// on, and its direct frames where they fall due. A frame is never cut by another.
//
//   log     ──[f1][f2]▲[f3][f4]──▶ end          sent in the order  f2's rest, d1, f3, f4
//   direct            d1 (due between f2 and f3)
//
// Gather says which bytes come next, Consume that some of them have been sent. Descriptors are not
// known here.
//
// Counting: `counted_` is the boundary up to which frames have been counted as written or dropped.
// While a subscriber is behind, what it has been sent is counted when it has caught up or ends, so
// that no frame is walked on the way; until then it counts as queued, unless CountWritten is
// called.
//
// Memory: none of its own for broadcast events; direct frames are allocated when there are any.
// Push and SkipTo may throw std::bad_alloc; then nothing has changed. Thread safety: none; the loop
// thread.

#ifndef EVRELAY_FANOUT_OUTBOX_H_
#define EVRELAY_FANOUT_OUTBOX_H_

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "codec/frame.h"
#include "fanout/broadcast_log.h"
#include "fanout/cursor.h"
#include "fanout/direct_queue.h"

namespace evrelay {

class Outbox {
 public:
  // From now on: gets what is appended after this call.
  enum class Begin : std::uint8_t {
    kSent,  // takes part in the flush that ends this turn
    kHeld,  // does not, until some later turn
  };
  void Start(BroadcastLog& log, Begin begin = Begin::kSent);

  // One frame for this subscriber alone, due at the log's end.
  void Push(const BroadcastLog& log, Frame frame);

  // Nothing that is appended or pushed after this call is for this subscriber.
  void Stop(const BroadcastLog& log);

  // The next bytes to send, in at most `max` pieces; their number. 0: nothing is due.
  std::size_t Gather(const BroadcastLog& log, iovec* pieces, std::size_t max) const;

  // The first `bytes` of what Gather gave have been sent; 0 when the socket took none. Called once
  // for each Gather that gave something, within a flush. Once `drained`, nothing is due: this
  // outbox is not to be touched again before the log's Mark(), and never again after Stop.
  struct Consumed {
    std::uint64_t written = 0;  // frames that now count as written
    bool drained = false;
  };
  Consumed Consume(BroadcastLog& log, std::size_t bytes);

  // Moves a subscriber that is before `target` there, for good: what it has not begun to be sent
  // up to `target` is skipped, a frame it has been sent in part will be ended. Direct frames stay.
  // `begun`: its next byte is on its way, though it does not count as sent. Only for one that is
  // behind.
  struct Skipped {
    std::uint64_t written = 0;  // frames found to have been written
    std::uint64_t skipped = 0;
  };
  Skipped SkipTo(BroadcastLog& log, const Boundary& target, bool begun = false);

  // The subscriber ends here. What it holds is given up.
  struct Abandoned {
    std::uint64_t written = 0;  // frames found to have been written
    std::uint64_t dropped = 0;  // frames that were due and have not been sent, or not wholly
  };
  Abandoned Abandon(BroadcastLog& log);

  // Counts what a subscriber that is behind has been sent so far. Returns how many frames are now
  // counted as written. Walks at most the frames of one segment.
  std::uint64_t CountWritten(const BroadcastLog& log);

  // Bytes that stand between this subscriber and the end of what is for it.
  std::uint64_t Lag(const BroadcastLog& log) const;
  // After Stop: bytes of the log that are not for it, but that it keeps from being freed.
  std::uint64_t Beyond(const BroadcastLog& log) const;
  // Frames that are for it and not yet counted as written.
  std::uint64_t Queued(const BroadcastLog& log) const;
  // Bytes of direct frames, within Lag.
  std::size_t direct_bytes() const { return direct_ == nullptr ? 0 : direct_->bytes(); }

 private:
  static constexpr Position kNever = UINT64_MAX;

  // Where this subscriber's part of the log ends.
  Boundary Limit(const BroadcastLog& log) const {
    return limit_.position == kNever ? log.end() : limit_;
  }
  const Boundary& Counted(const BroadcastLog& log) const {
    return cursor_.pinned() ? counted_ : log.mark();
  }
  void PinAt(BroadcastLog& log, Position position);
  // What FirstFrameFrom says of the cursor's place, without a walk where it is known.
  Boundary NextFrame(const BroadcastLog& log) const;

  Cursor cursor_;
  Boundary counted_;  // while pinned; else it is log.mark()
  Boundary limit_{kNever, 0};
  std::unique_ptr<DirectQueue> direct_;  // null when there are no direct frames
};

}  // namespace evrelay

#endif  // EVRELAY_FANOUT_OUTBOX_H_
