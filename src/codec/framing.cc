#include "codec/framing.h"

#include <algorithm>

namespace evrelay {

namespace {

using netstring::Decode;
using netstring::Decoded;
using netstring::Limits;
using netstring::Status;
using netstring::Type;

// A buffer larger than this is given back when its frame is done, so that one large message does
// not stay in memory for as long as its connection.
constexpr std::size_t kKeptCapacity = 1024;

}  // namespace

FrameReader::Item FrameReader::FinishPartial(std::string_view& chunk, const Limits& limits) {
  Item item;
  if (handed_out_) ReleasePartial();
  while (!partial_.empty()) {
    const Decoded decoded = Decode(partial_, limits);
    if (decoded.status == Status::kFrame) {
      handed_out_ = true;
      item.kind = Kind::kFrame;
      item.type = decoded.type;
      item.payload = decoded.payload;
      return item;
    }
    if (decoded.status == Status::kError) {
      item.kind = Kind::kError;
      item.error = decoded.error;
      return item;
    }
    if (chunk.empty()) return item;
    const std::size_t missing = decoded.need == 0 ? 1 : decoded.need - partial_.size();
    const std::size_t take = std::min(missing, chunk.size());
    partial_.append(chunk.substr(0, take));
    chunk.remove_prefix(take);
  }
  return item;
}

FrameReader::Item FrameReader::Next(std::string_view& chunk, const Limits& limits) {
  Item item = FinishPartial(chunk, limits);
  if (item.kind != Kind::kMore || !partial_.empty()) return item;

  const Decoded decoded = Decode(chunk, limits);
  switch (decoded.status) {
    case Status::kFrame:
      item.kind = Kind::kFrame;
      item.type = decoded.type;
      item.payload = decoded.payload;
      chunk.remove_prefix(decoded.consumed);
      break;
    case Status::kMore:
      partial_.assign(chunk.substr(decoded.consumed));
      chunk = {};
      break;
    case Status::kError:
      item.kind = Kind::kError;
      item.error = decoded.error;
      chunk.remove_prefix(decoded.consumed);
      break;
  }
  return item;
}

FrameReader::Item FrameReader::NextRun(std::string_view& chunk, const Limits& limits) {
  if (partial_.empty()) {
    Item run;
    run.kind = Kind::kRun;
    std::size_t end = 0;
    while (end < chunk.size() && !netstring::IsSpace(chunk[end])) {
      const Decoded decoded = Decode(chunk.substr(end), limits);
      if (decoded.status != Status::kFrame || decoded.type != Type::kData || !decoded.canonical ||
          decoded.payload.empty()) {
        break;
      }
      end += decoded.consumed;
      ++run.frames;
      run.payload_bytes += decoded.payload.size();
    }
    if (run.frames != 0) {
      run.wire = chunk.substr(0, end);
      chunk.remove_prefix(end);
      return run;
    }
  } else if (handed_out_) {
    ReleasePartial();
    return NextRun(chunk, limits);
  }
  return Next(chunk, limits);
}

std::size_t FrameReader::Discard(std::string_view& chunk) {
  const std::size_t bytes = partial_.size() + chunk.size();
  ReleasePartial();
  chunk = {};
  return bytes;
}

netstring::Error FrameReader::Finish() const {
  return partial_.empty() || handed_out_ ? netstring::Error::kNone : netstring::Error::kTruncated;
}

void FrameReader::ReleasePartial() {
  handed_out_ = false;
  if (partial_.capacity() > kKeptCapacity) {
    std::string().swap(partial_);
  } else {
    partial_.clear();
  }
}

}  // namespace evrelay
