// FrameReader on any stream: however it is cut into reads, with Next or NextRun, it tells what
// Decode tells of the whole. The input's first four bytes decide about the cuts, the rest is the
// stream.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "codec/framing.h"
#include "fuzz/check.h"

namespace {

using evrelay::FrameReader;
using namespace evrelay::netstring;
using Kind = FrameReader::Kind;

constexpr Limits kLimits{.data = 256, .list = 512};

struct Story {
  std::vector<std::pair<Type, std::string>> frames;
  Error end = Error::kNone;  // the first error, or how the stream ended

  friend bool operator==(const Story&, const Story&) = default;
};

Story Whole(std::string_view stream) {
  Story story;
  for (;;) {
    const Decoded decoded = Decode(stream, kLimits);
    stream.remove_prefix(decoded.consumed);
    if (decoded.status == Status::kFrame) {
      story.frames.emplace_back(decoded.type, decoded.payload);
      continue;
    }
    if (decoded.status == Status::kError) {
      story.end = decoded.error;
    } else if (!stream.empty()) {
      story.end = Error::kTruncated;
    }
    return story;
  }
}

void TakeRun(Story& story, const FrameReader::Item& run, std::string_view chunk) {
  EVRELAY_CHECK(Inside(run.wire, chunk));
  EVRELAY_CHECK(run.frames > 0);
  std::string again;
  std::size_t payload_bytes = 0;
  std::string_view wire = run.wire;
  for (std::uint32_t i = 0; i < run.frames; ++i) {
    const Decoded decoded = Decode(wire, kLimits);
    EVRELAY_CHECK(decoded.status == Status::kFrame && decoded.type == Type::kData);
    EVRELAY_CHECK(!decoded.payload.empty());
    story.frames.emplace_back(decoded.type, decoded.payload);
    payload_bytes += decoded.payload.size();
    Append(again, decoded.payload);
    wire.remove_prefix(decoded.consumed);
  }
  // A run goes to the subscribers as it stands, so it is what would have been written.
  EVRELAY_CHECK(again == run.wire);
  EVRELAY_CHECK(payload_bytes == run.payload_bytes);
}

Story InReads(std::string_view stream, std::uint32_t seed, bool runs) {
  std::minstd_rand random(seed);
  const std::size_t longest = 1 + random() % 64;
  FrameReader reader;
  Story story;
  while (!stream.empty()) {
    const std::string chunk(stream.substr(0, 1 + random() % longest));
    stream.remove_prefix(chunk.size());
    std::string_view left = chunk;
    for (;;) {
      const auto item = runs ? reader.NextRun(left, kLimits) : reader.Next(left, kLimits);
      EVRELAY_CHECK(Inside(left, chunk) || left.empty());
      if (item.kind == Kind::kMore) break;
      if (item.kind == Kind::kError) {
        story.end = item.error;
        reader.Discard(left);
        EVRELAY_CHECK(left.empty() && reader.Finish() == Error::kNone);
        return story;
      }
      if (item.kind == Kind::kRun) {
        EVRELAY_CHECK(runs);
        TakeRun(story, item, chunk);
      } else {
        story.frames.emplace_back(item.type, item.payload);
      }
    }
    EVRELAY_CHECK(left.empty());
  }
  story.end = reader.Finish();
  return story;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 4) return 0;
  const std::uint32_t seed = static_cast<std::uint32_t>(data[0]) | data[1] << 8 | data[2] << 16 |
                             static_cast<std::uint32_t>(data[3]) << 24;
  const std::string_view stream(reinterpret_cast<const char*>(data) + 4, size - 4);
  const Story whole = Whole(stream);
  EVRELAY_CHECK(InReads(stream, seed, false) == whole);
  EVRELAY_CHECK(InReads(stream, seed, true) == whole);
  return 0;
}
