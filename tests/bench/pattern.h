// The bytes of a run: numbered events of one size, the same sequence over and over, so that any
// piece of the stream can be sent from one place in memory and checked from its position alone.
// An event begins with its number (8 bytes, see Number) and goes on with letters that differ from
// event to event. A loss of exactly one period is seen in the totals, any other in the numbers.
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
#include <vector>

namespace bench {

// Bytes that can be taken from any position at once: the largest send and the largest read.
inline constexpr std::size_t kRun = 256 * 1024;

// What stands around an event on the wire; the same for all events of one size.
struct Envelope {
  std::string header;
  std::string trailer;
};

// A data frame of evrelay and of evapi.
inline Envelope Netstring(std::size_t size) { return {std::to_string(size) + ':', ","}; }

class Pattern {
 public:
  static constexpr std::size_t kSmallest = sizeof(std::uint64_t);
  static constexpr std::size_t kLargest = kRun / 2;

  // `size`: bytes of an event, kSmallest to kLargest.
  Pattern(std::size_t size, const Envelope& envelope)
      : period_(std::max<std::uint64_t>(kRun / size, 16)),
        frame_(envelope.header.size() + size + envelope.trailer.size()),
        header_(envelope.header.size()) {
    for (std::size_t i = 0; i < header_; i += sizeof(std::uint64_t)) {
      const std::size_t rest = std::min(header_ - i, sizeof(std::uint64_t));
      Word word;
      std::memcpy(&word.bytes, envelope.header.data() + i, rest);
      std::memset(&word.mask, 0xFF, rest);
      header_words_.push_back(word);
    }
    if (!envelope.trailer.empty()) end_ = {.mask = '\xFF', .byte = envelope.trailer.back()};

    std::string event(size, '\0');
    for (std::uint64_t number = 0; number < period_; ++number) {
      for (std::size_t i = 0; i < size; ++i) {
        event[i] = static_cast<char>('a' + (number + i) % 26);
      }
      const std::uint64_t written = Number(number);
      std::memcpy(event.data(), &written, sizeof written);
      text_ += envelope.header + event + envelope.trailer;
    }
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

  // Compares header, number and last byte of each frame, and both ends of `data`: a byte that is
  // missing, doubled or out of order moves one of them.
  bool SameFrames(std::uint64_t position, const char* data, std::size_t size) const {
    constexpr std::size_t kEdge = 32;
    const std::size_t edge = std::min(size, kEdge);
    if (!SameBytes(position, data, edge)) return false;
    if (!SameBytes(position + size - edge, data + size - edge, edge)) return false;

    const std::size_t into = position % frame_;
    std::uint64_t number = (position + frame_ - 1) / frame_ % period_;
    std::uint64_t wrong = 0;
    for (std::size_t at = into == 0 ? 0 : frame_ - into; at + frame_ <= size; at += frame_) {
      const char* byte = data + at;
      for (const Word& word : header_words_) {
        wrong |= (Load(byte) & word.mask) ^ word.bytes;
        byte += sizeof word.bytes;
      }
      wrong |= Load(data + at + header_) ^ Number(number);
      wrong |= static_cast<std::uint64_t>((data[at + frame_ - 1] ^ end_.byte) & end_.mask);
      if (++number == period_) number = 0;
    }
    return wrong == 0;
  }

 private:
  // Eight bytes of the header, or what is left of it.
  struct Word {
    std::uint64_t bytes = 0;
    std::uint64_t mask = 0;
  };
  // The last byte of a frame, if it is not the event's.
  struct End {
    char mask = 0;
    char byte = 0;
  };

  static std::uint64_t Load(const char* at) {
    std::uint64_t word;
    std::memcpy(&word, at, sizeof word);
    return word;
  }

  // A number to the base 128, lowest digit first, each with its highest bit set: no byte is zero,
  // where evapi would end the event. Numbers are less than 2^21.
  static std::uint64_t Number(std::uint64_t number) {
    return 0x8080808080808080 | (number & 0x7F) | (number & 0x3F80) << 1 | (number & 0x1FC000) << 2;
  }

  std::uint64_t period_;
  std::size_t frame_;
  std::size_t header_;  // bytes before the event
  std::vector<Word> header_words_;
  End end_;
  std::string text_;  // `period_` frames, then their beginning again
};

}  // namespace bench

#endif  // EVRELAY_TESTS_BENCH_PATTERN_H_
