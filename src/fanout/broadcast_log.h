// BroadcastLog: every event stands here once, in the order in which all subscribers see it.
//
//            front                        back
//   log   [segment]──▶[segment]──▶[segment]        positions grow to the right
//              ▲ pins=1              ▲    ▲
//           a Cursor             mark()  end()
//
// - Append copies to the end and touches no reader. What has been received into Room() and is to be
//   appended as it came stands there already and is not copied.
// - A reader that has been sent everything is *unpinned*: it stands at mark(), implicitly. Mark(),
//   called when a flush is over, moves mark() to end(), and with it all unpinned readers at once.
// - A reader that is behind is *pinned* to a segment by its Cursor. Segments leave from the front
//   only, when nobody is pinned there and mark() is past them.
//
// Invariants: bytes below `used` never move and never change; front.base <= every reader's position
// <= end(); a frame starts at end(), and at mark(). Segments come from a last-in-first-out list of
// free ones, so that the log stays in the cache as long as nobody lags.
//
// Memory: the segments that readers pin, and up to kFreeSegments more; what stays empty at the end
// of a segment is less than Room was asked for. What an event needs is there before its first byte
// is written; when it cannot be had, std::bad_alloc is thrown and nothing has changed. One segment
// is there from the start, so that readers need none.
// Thread safety: none; the loop thread.

#ifndef EVRELAY_FANOUT_BROADCAST_LOG_H_
#define EVRELAY_FANOUT_BROADCAST_LOG_H_

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "codec/frame.h"
#include "evrelay/ids.h"
#include "fanout/cursor.h"
#include "fanout/segment.h"

namespace evrelay {

// A place where a frame starts, and how many frames stand before it.
struct Boundary {
  Position position = 0;
  std::uint64_t ordinal = 0;

  friend bool operator==(const Boundary&, const Boundary&) = default;
};

class BroadcastLog {
 public:
  enum class Format : std::uint8_t {
    kNetstring,  // frames tell their own size
    kRaw,        // bare events; their starts are listed beside them
  };

  explicit BroadcastLog(Format format);
  BroadcastLog(const BroadcastLog&) = delete;
  BroadcastLog& operator=(const BroadcastLog&) = delete;
  ~BroadcastLog();

  // `wire` holds `frames` whole netstrings in canonical form. kNetstring only.
  void AppendRun(std::string_view wire, std::uint32_t frames);
  // kNetstring only.
  void AppendRun(const AlikeFrames& run);
  // One event; encoded as the format says.
  void AppendEvent(std::string_view payload);

  // What is appended may stand in Room() itself, at or after the place where it comes to stand.

  // Free space right behind end(), of `size` (at most Segment::kSize) bytes at least, to receive
  // into; it is there until Mark or Trim.
  std::span<char> Room(std::size_t size);

  const Boundary& end() const { return end_; }
  const Boundary& mark() const { return mark_; }

  // All unpinned readers have been sent everything up to end(). Frees what nobody needs any more.
  void Mark();
  // Frees what nobody needs any more, after cursors have moved.
  void Trim();

  Position PositionOf(const Cursor& cursor) const;
  // Moves the reader to `position`, at or after where it is.
  void Pin(Cursor& cursor, Position position);
  // The reader is to stand at mark() from now on.
  void Unpin(Cursor& cursor);

  // The bytes from the reader's position to `until`, as at most `max` pieces. Returns their number.
  std::size_t Gather(const Cursor& cursor, Position until, iovec* pieces, std::size_t max) const;

  // Copies the bytes [from, until) to the end of `out`; both within the log.
  void Copy(Position from, Position until, std::string& out) const;

  // The bytes [from, until) of a frame that ends at `until`, kept apart from the log: what stands
  // in `frame` from `offset` on. Many who are stuck in the same frame share what was copied last.
  struct Tail {
    Frame frame;
    std::size_t offset;
  };
  Tail TailFrom(Position from, Position until);

  // The first frame that starts at or after `position`; end() when there is none. Walks at most the
  // frames of one segment.
  Boundary FirstFrameFrom(Position position) const;

  // No reader is before this position.
  Position oldest() const { return front_ == nullptr ? end_.position : front_->base; }

  std::uint64_t bytes() const { return end_.position - oldest(); }
  std::size_t segments() const { return segments_; }
  std::size_t free_segments() const { return free_.size(); }

  static constexpr std::size_t kFreeSegments = 8;

 private:
  // The segment that holds `position`, which is below end(), looked for from `from` on.
  static Segment* Find(Segment* from, Position position);
  // There is memory for so many bytes.
  void Reserve(std::size_t bytes);
  void StartFrame();
  void Write(std::string_view bytes);
  void Grow();  // by a free segment, of which there is one
  void Release(Segment* segment);

  const Format format_;
  Segment* front_ = nullptr;  // owned, with all that follow it
  Segment* back_ = nullptr;
  Segment* mark_segment_ = nullptr;  // where mark() is; null when no byte stands after it
  std::size_t segments_ = 0;
  Boundary mark_;
  Boundary end_;
  std::vector<Segment*> free_;                  // owned
  std::weak_ptr<const std::string> last_tail_;  // the bytes before last_tail_end_
  Position last_tail_end_ = 0;
};

}  // namespace evrelay

#endif  // EVRELAY_FANOUT_BROADCAST_LOG_H_
