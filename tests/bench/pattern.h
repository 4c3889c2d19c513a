// The bytes of a run: numbered events of one size, the same sequence over and over, so that any
// piece of the stream can be sent from one place in memory and checked from its position alone.
// An event begins with its number (8 bytes, little-endian, 0 … period - 1) and goes on with letters
// that differ from event to event. A loss of exactly one period is seen in the totals, any other in
// the numbers.
//
// Immutable after construction. Positions are bytes since the start of the stream.

#ifndef EVRELAY_TESTS_BENCH_PATTERN_H_
#define EVRELAY_TESTS_BENCH_PATTERN_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "evrelay/netstring.h"

namespace bench {

// Bytes that can be taken from any position at once: the largest send and the largest read.
inline constexpr std::size_t kRun = 256 * 1024;

class Pattern {
 public:
  enum class Form {
    kEvents,    // data frames
    kRequests,  // the same events, each as the list frame "relay EVENT"
  };

  static constexpr std::size_t kSmallest = sizeof(std::uint64_t);
  static constexpr std::size_t kLargest = kRun / 2;

  // `size`: bytes of an event, kSmallest to kLargest.
  Pattern(std::size_t size, Form form) : period_(std::max<std::uint64_t>(kRun / size, 16)) {
    std::string event(size, '\0');
    for (std::uint64_t number = 0; number < period_; ++number) {
      for (std::size_t i = 0; i < size; ++i) {
        event[i] = static_cast<char>('a' + (number + i) % 26);
      }
      std::memcpy(event.data(), &number, sizeof number);
      if (form == Form::kEvents) {
        evrelay::netstring::Append(text_, event);
      } else {
        text_ += evrelay::netstring::EncodeList({"relay", event});
      }
    }
    frame_ = text_.size() / period_;
    header_ = std::to_string(size).size() + 1;
    const std::size_t whole = text_.size();
    for (std::size_t i = 0; i < kRun; ++i) text_.push_back(text_[i % whole]);
  }

  std::size_t frame() const { return frame_; }  // bytes of one frame

  // The stream at `position`; kRun bytes can be read there.
  const char* At(std::uint64_t position) const {
    return text_.data() + position % (period_ * frame_);
  }

  // Compares every byte. At most kRun bytes.
  bool SameBytes(std::uint64_t position, const char* data, std::size_t size) const {
    return std::memcmp(At(position), data, size) == 0;
  }

  // Compares header, number and trailer of each frame, and both ends of `data`: a byte that is
  // missing, doubled or out of order moves one of them. Events only.
  bool SameFrames(std::uint64_t position, const char* data, std::size_t size) const {
    constexpr std::size_t kEdge = 32;
    const std::size_t edge = std::min(size, kEdge);
    if (!SameBytes(position, data, edge)) return false;
    if (!SameBytes(position + size - edge, data + size - edge, edge)) return false;

    const std::size_t into = position % frame_;
    std::uint64_t number = (position + frame_ - 1) / frame_ % period_;
    const std::uint64_t mask = (std::uint64_t{1} << (8 * header_)) - 1;
    const std::uint64_t header = Load(text_.data()) & mask;
    std::uint64_t wrong = 0;
    for (std::size_t at = into == 0 ? 0 : frame_ - into; at + frame_ <= size; at += frame_) {
      wrong |= (Load(data + at) & mask) ^ header;
      wrong |= Load(data + at + header_) ^ number;
      wrong |= static_cast<std::uint64_t>(data[at + frame_ - 1] ^ ',');
      if (++number == period_) number = 0;
    }
    return wrong == 0;
  }

 private:
  static std::uint64_t Load(const char* at) {
    std::uint64_t word;
    std::memcpy(&word, at, sizeof word);
    return word;
  }

  std::uint64_t period_;
  std::string text_;  // `period_` frames, then their beginning again
  std::size_t frame_ = 0;
  std::size_t header_ = 0;  // bytes before the event
};

}  // namespace bench

#endif  // EVRELAY_TESTS_BENCH_PATTERN_H_
