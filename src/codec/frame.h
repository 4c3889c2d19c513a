// Frame: an event already encoded, or the end of one, immutable, shared by all who have it queued.
// AlikeFrames: several that stand where they have been read.

#ifndef EVRELAY_CODEC_FRAME_H_
#define EVRELAY_CODEC_FRAME_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace evrelay {

class Frame {
 public:
  explicit Frame(std::string wire) : wire_(std::make_shared<const std::string>(std::move(wire))) {}

  explicit Frame(std::shared_ptr<const std::string> wire) : wire_(std::move(wire)) {}

  std::string_view wire() const { return *wire_; }

 private:
  std::shared_ptr<const std::string> wire_;
};

// `count` data frames in canonical form, of one size, none empty, each of which begins `stride`
// bytes after the one before.
struct AlikeFrames {
  std::string_view first;     // the wire form of the first
  std::size_t payload_bytes;  // of each
  std::size_t stride;
  std::uint32_t count = 0;

  std::string_view wire(std::uint32_t number) const {
    return {first.data() + number * stride, first.size()};
  }
};

}  // namespace evrelay

#endif  // EVRELAY_CODEC_FRAME_H_
