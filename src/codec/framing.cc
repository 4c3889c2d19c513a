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

// The data frames in canonical form, none empty, that `chunk` begins with; removed from it.
// Whatever is not plainly one of these ends the run and is left to Decode, so this need not tell
// what it is. It runs over every byte of header that producers send: hence no more than a scan.
FrameReader::Item TakeRun(std::string_view& chunk, std::int64_t max_payload) {
  FrameReader::Item run;
  run.kind = FrameReader::Kind::kRun;
  const char* const begin = chunk.data();
  const char* const end = begin + chunk.size();
  const char* frame = begin;
  while (frame != end && *frame >= '1' && *frame <= '9') {
    const char* at = frame;
    std::int64_t size = 0;
    do {
      size = size * 10 + (*at++ - '0');
    } while (at != end && *at >= '0' && *at <= '9' && size <= max_payload);
    if (at == end || *at != ':' || size > max_payload || end - at < size + 2) break;
    const char* const first = frame;
    const char* const payload = at + 1;
    if (payload[size] != static_cast<char>(Type::kData)) break;
    // Events are often alike in size. A frame with the same header is as long as this one: to
    // compare it takes no arithmetic that finding the next frame would have to wait for.
    const std::ptrdiff_t whole = payload - first + size + 1;
    do {
      frame += whole;
      ++run.frames;
      run.payload_bytes += static_cast<std::size_t>(size);
    } while (end - frame >= whole && std::equal(first, payload, frame) &&
             frame[whole - 1] == static_cast<char>(Type::kData));
  }
  const auto bytes = static_cast<std::size_t>(frame - begin);
  run.wire = chunk.substr(0, bytes);
  chunk.remove_prefix(bytes);
  return run;
}

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
    const Item run = TakeRun(chunk, limits.data);
    if (run.frames != 0) return run;
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
  return begun() ? netstring::Error::kTruncated : netstring::Error::kNone;
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
