// FrameReader: reads become frames. Keeps the bytes of an unfinished frame between two reads and
// nothing else: whole frames are handed out as views into the chunk that was read.
//
// Memory: what the reader holds is never more than has arrived of one accepted frame; a SIZE over
// the limit is refused before a byte is kept for it.
// Thread safety: none; the owning connection's thread.

#ifndef EVRELAY_CODEC_FRAMING_H_
#define EVRELAY_CODEC_FRAMING_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "evrelay/netstring.h"

namespace evrelay {

class FrameReader {
 public:
  enum class Kind : std::uint8_t {
    kRun,  // NextRun only: `wire` holds `frames` data frames in canonical form, none of them empty
    kFrame,  // one frame: `type`, `payload`
    kMore,   // the chunk is used up
    kError,  // `error`; only Discard or the end may follow
  };
  struct Item {
    Kind kind = Kind::kMore;
    netstring::Error error = netstring::Error::kNone;
    netstring::Type type = netstring::Type::kData;
    std::uint32_t frames = 0;
    std::size_t payload_bytes = 0;  // of all frames of a run
    std::string_view wire;
    std::string_view payload;
  };

  // The next frame of `chunk`, from which it is removed. The item's views are valid until the next
  // call and as long as the bytes under `chunk`.
  Item Next(std::string_view& chunk, const netstring::Limits& limits);

  // The same, but data frames that stand in `chunk` in the form a subscriber gets are taken
  // together, so that they can be copied at once.
  Item NextRun(std::string_view& chunk, const netstring::Limits& limits);

  // After kError: forgets the unfinished frame and the rest of `chunk`; the next read starts
  // afresh. Returns the number of bytes thrown away.
  std::size_t Discard(std::string_view& chunk);

  // A frame has begun and has not ended.
  bool begun() const { return held() != 0; }

  // Bytes that are kept of it.
  std::size_t held() const { return handed_out_ ? 0 : partial_.size(); }

  // At EOF: kTruncated inside a frame, else kNone.
  netstring::Error Finish() const;

 private:
  // Completes the frame begun in an earlier chunk. kMore with an empty partial_: there was none.
  Item FinishPartial(std::string_view& chunk, const netstring::Limits& limits);
  void ReleasePartial();

  // Begins with the first byte of a SIZE, never holds more than one frame.
  std::string partial_;
  bool handed_out_ = false;  // partial_ is the frame that the last call returned
};

}  // namespace evrelay

#endif  // EVRELAY_CODEC_FRAMING_H_
