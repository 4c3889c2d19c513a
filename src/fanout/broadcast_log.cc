#include "fanout/broadcast_log.h"

#include <algorithm>
#include <cassert>
#include <charconv>
#include <cstring>
#include <new>
#include <string>
#include <utility>

#include "evrelay/netstring.h"

namespace evrelay {

namespace {

// Size of the canonical frame that starts at `wire`, whose header may be cut off by the end of its
// segment: then 0.
std::size_t FrameSize(std::string_view wire) {
  std::size_t size = 0;
  for (std::size_t at = 0; at < wire.size(); ++at) {
    if (wire[at] == ':') return at + 1 + size + 1;
    size = size * 10 + static_cast<std::size_t>(wire[at] - '0');
  }
  return 0;
}

}  // namespace

BroadcastLog::BroadcastLog(Format format) : format_(format) {
  free_.reserve(kFreeSegments);
  free_.push_back(new Segment);
}

BroadcastLog::~BroadcastLog() {
  while (front_ != nullptr) delete std::exchange(front_, front_->next);
  for (Segment* segment : free_) delete segment;
}

void BroadcastLog::AppendRun(std::string_view wire, std::uint32_t frames) {
  assert(format_ == Format::kNetstring);
  Reserve(wire.size());
  StartFrame();
  std::uint64_t ordinal = end_.ordinal;
  std::size_t at = 0;  // a frame of the run starts here, with this ordinal
  while (true) {
    const std::size_t fits = std::min<std::size_t>(Segment::kSize - back_->used, wire.size());
    Write(wire.substr(0, fits));
    if (fits == wire.size()) break;
    // The rest goes to a new segment, which must know the first frame that starts in it.
    Grow();
    while (at < fits) {
      at += FrameSize(wire.substr(at));
      ++ordinal;
    }
    wire.remove_prefix(fits);
    at -= fits;
    if (at < std::min<std::size_t>(wire.size(), Segment::kSize)) {
      back_->first_frame = static_cast<std::uint32_t>(at);
      back_->first_ordinal = ordinal;
    }
  }
  end_.ordinal += frames;
}

void BroadcastLog::AppendRun(const AlikeFrames& run) {
  assert(format_ == Format::kNetstring);
  Reserve(run.count * run.first.size());
  for (std::uint32_t number = 0; number < run.count; ++number) {
    const std::string_view wire = run.wire(number);
    if (back_ != nullptr && Segment::kSize - back_->used > wire.size()) {
      StartFrame();
      Write(wire);
      ++end_.ordinal;
    } else {
      AppendRun(wire, 1);
    }
  }
}

void BroadcastLog::AppendEvent(std::string_view payload) {
  Reserve(payload.size() + netstring::kMaxOverhead);
  StartFrame();
  const auto write = [this](std::string_view bytes) {
    while (!bytes.empty()) {
      if (back_->used == Segment::kSize) Grow();
      const std::size_t fits = std::min<std::size_t>(Segment::kSize - back_->used, bytes.size());
      Write(bytes.substr(0, fits));
      bytes.remove_prefix(fits);
    }
  };
  if (format_ == Format::kRaw) {
    write(payload);
  } else {
    char head[24];  // the digits of any size_t, and the colon
    char* end = std::to_chars(head, head + sizeof head - 1, payload.size()).ptr;
    *end++ = ':';
    write(std::string_view(head, static_cast<std::size_t>(end - head)));
    write(payload);
    write(",");
  }
  ++end_.ordinal;
}

std::span<char> BroadcastLog::Room(std::size_t size) {
  assert(size <= Segment::kSize);
  if (back_ == nullptr || Segment::kSize - back_->used < size) {
    if (free_.empty()) free_.push_back(new Segment);
    Grow();
  }
  return std::span<char>(back_->data, Segment::kSize).subspan(back_->used);
}

void BroadcastLog::Mark() {
  mark_ = end_;
  mark_segment_ = nullptr;
  Trim();
}

void BroadcastLog::Trim() {
  while (front_ != nullptr && front_ != mark_segment_ && front_->pins == 0) {
    // A segment in front of the mark's has been sent to all but the pinned; one at or after it
    // only when nothing at all is to be sent.
    Release(std::exchange(front_, front_->next));
  }
  if (front_ == nullptr) back_ = nullptr;
}

Position BroadcastLog::PositionOf(const Cursor& cursor) const {
  return cursor.pinned() ? cursor.segment_->base + cursor.offset_ : mark_.position;
}

void BroadcastLog::Pin(Cursor& cursor, Position position) {
  assert(position >= PositionOf(cursor) && position <= end_.position);
  // At end() the reader may stand behind the last byte of the last segment.
  if (back_ == nullptr) Grow();
  Segment* from = cursor.pinned() ? cursor.segment_ : mark_segment_;
  Segment* segment = position == end_.position ? back_ : Find(from, position);
  cursor.MoveTo(segment, static_cast<std::uint32_t>(position - segment->base));
}

void BroadcastLog::Unpin(Cursor& cursor) { cursor.MoveTo(nullptr, 0); }

std::size_t BroadcastLog::Gather(const Cursor& cursor, Position until, iovec* pieces,
                                 std::size_t max) const {
  Position at = PositionOf(cursor);
  Segment* segment = cursor.pinned() ? cursor.segment_ : mark_segment_;
  std::size_t count = 0;
  while (at < until && count < max) {
    assert(segment != nullptr);
    const Position stop = std::min(until, segment->end());
    if (at < stop) {
      pieces[count].iov_base = segment->data + (at - segment->base);
      pieces[count].iov_len = stop - at;
      ++count;
      at = stop;
    }
    segment = segment->next;
  }
  return count;
}

void BroadcastLog::Copy(Position from, Position until, std::string& out) const {
  for (const Segment* segment = front_; segment != nullptr && from < until;
       segment = segment->next) {
    if (from >= segment->end()) continue;
    const Position stop = std::min(until, segment->end());
    out.append(segment->data + (from - segment->base), stop - from);
    from = stop;
  }
}

BroadcastLog::Tail BroadcastLog::TailFrom(Position from, Position until) {
  std::shared_ptr<const std::string> bytes = last_tail_.lock();
  if (bytes == nullptr || last_tail_end_ != until || until - from > bytes->size()) {
    std::string copy;
    Copy(from, until, copy);
    bytes = std::make_shared<const std::string>(std::move(copy));
    last_tail_ = bytes;
    last_tail_end_ = until;
  }
  const std::size_t offset = bytes->size() - (until - from);
  return {Frame(std::move(bytes)), offset};
}

Boundary BroadcastLog::FirstFrameFrom(Position position) const {
  if (position >= end_.position) return end_;
  for (const Segment* segment = Find(front_, position); segment != nullptr;
       segment = segment->next) {
    if (segment->first_frame == Segment::kNone) continue;
    Boundary at{segment->base + segment->first_frame, segment->first_ordinal};
    if (at.position >= position) return at;
    if (format_ == Format::kRaw) {
      const auto offset = static_cast<std::uint32_t>(position - segment->base);
      const auto start = std::lower_bound(segment->starts.begin(), segment->starts.end(), offset);
      if (start == segment->starts.end()) continue;
      return {segment->base + *start,
              at.ordinal + static_cast<std::uint64_t>(start - segment->starts.begin())};
    }
    while (at.position < position) {
      const std::size_t offset = at.position - segment->base;
      const std::size_t size = FrameSize({segment->data + offset, segment->used - offset});
      if (size == 0) break;
      at.position += size;
      ++at.ordinal;
    }
    if (at.position >= position && at.position < segment->end()) return at;
  }
  return end_;
}

Segment* BroadcastLog::Find(Segment* from, Position position) {
  while (position >= from->end()) from = from->next;
  return from;
}

void BroadcastLog::Reserve(std::size_t bytes) {
  const std::size_t room = back_ == nullptr ? 0 : Segment::kSize - back_->used;
  if (bytes <= room) return;
  const std::size_t segments = (bytes - room + Segment::kSize - 1) / Segment::kSize;
  try {
    free_.reserve(segments);
    while (free_.size() < segments) free_.push_back(new Segment);
  } catch (const std::bad_alloc&) {
    for (; free_.size() > kFreeSegments; free_.pop_back()) delete free_.back();
    throw;
  }
}

// The next byte written is the first of a frame.
void BroadcastLog::StartFrame() {
  if (back_ == nullptr || back_->used == Segment::kSize) Grow();
  if (format_ == Format::kRaw) back_->starts.push_back(back_->used);
  if (mark_segment_ == nullptr) mark_segment_ = back_;
  if (back_->first_frame == Segment::kNone) {
    back_->first_frame = back_->used;
    back_->first_ordinal = end_.ordinal;
  }
}

// `bytes` fit into the last segment, and may stand in it behind what is used.
void BroadcastLog::Write(std::string_view bytes) {
  char* const to = back_->data + back_->used;
  if (to != bytes.data()) std::memmove(to, bytes.data(), bytes.size());
  back_->used += static_cast<std::uint32_t>(bytes.size());
  end_.position += bytes.size();
}

void BroadcastLog::Grow() {
  Segment* segment = free_.back();
  free_.pop_back();
  segment->next = nullptr;
  segment->base = end_.position;
  segment->used = 0;
  segment->first_frame = Segment::kNone;
  (back_ == nullptr ? front_ : back_->next) = segment;
  back_ = segment;
  ++segments_;
}

void BroadcastLog::Release(Segment* segment) {
  --segments_;
  std::vector<std::uint32_t>().swap(segment->starts);  // with tiny events it outweighs the data
  if (free_.size() < kFreeSegments) {
    free_.push_back(segment);
  } else {
    delete segment;
  }
}

}  // namespace evrelay
