// Frame: an event already encoded, or the end of one, immutable, shared by all who have it queued.

#ifndef EVRELAY_CODEC_FRAME_H_
#define EVRELAY_CODEC_FRAME_H_

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

}  // namespace evrelay

#endif  // EVRELAY_CODEC_FRAME_H_
