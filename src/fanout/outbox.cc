#include "fanout/outbox.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace evrelay {

void Outbox::Start(BroadcastLog& log, Begin begin) {
  // An unpinned reader stands at the mark, and moves with it when the flush is over.
  if (begin == Begin::kSent && log.end() == log.mark()) return;
  counted_ = log.end();
  log.Pin(cursor_, log.end().position);
}

void Outbox::Push(const BroadcastLog& log, Frame frame) {
  assert(limit_.position == kNever);
  std::unique_ptr<DirectQueue> first;
  if (direct_ == nullptr) first = std::make_unique<DirectQueue>();
  (first ? first : direct_)->Push(std::move(frame), log.end().position);
  if (first) direct_ = std::move(first);
}

void Outbox::Stop(const BroadcastLog& log) {
  if (limit_.position == kNever) limit_ = log.end();
}

std::size_t Outbox::Gather(const BroadcastLog& log, iovec* pieces, std::size_t max) const {
  const Position limit = Limit(log).position;
  if (direct_ == nullptr) return log.Gather(cursor_, limit, pieces, max);

  // Only the stretch of log before the next direct frame that lies ahead is gathered with them; the
  // next call goes on from there.
  const Position at = log.PositionOf(cursor_);
  std::size_t count = 0;
  std::size_t index = 0;
  for (; index < direct_->size() && direct_->Due(index) <= at; ++index) {
    if (count == max) return count;
    const std::string_view unsent = direct_->Unsent(index);
    pieces[count].iov_base = const_cast<char*>(unsent.data());  // iovec knows no const
    pieces[count].iov_len = unsent.size();
    ++count;
  }
  const Position until = index < direct_->size() ? direct_->Due(index) : limit;
  return count + log.Gather(cursor_, until, pieces + count, max - count);
}

Outbox::Consumed Outbox::Consume(BroadcastLog& log, std::size_t bytes) {
  Consumed result;
  const Position at = log.PositionOf(cursor_);
  while (direct_ != nullptr && direct_->Due(0) <= at) {
    const std::size_t sent = std::min(bytes, direct_->Unsent(0).size());
    bytes -= sent;
    if (!direct_->Sent(sent)) break;
    ++result.written;
    if (direct_->empty()) direct_.reset();
    if (bytes == 0) break;
  }
  const Boundary limit = Limit(log);
  const Position now = at + bytes;
  assert(now <= limit.position);
  if (now == limit.position) {
    result.written += limit.ordinal - Counted(log).ordinal;
    counted_ = limit;
    if (direct_ == nullptr) {
      // Mark() takes the unpinned to end() when the flush is over.
      log.Unpin(cursor_);
      result.drained = true;
    } else {
      log.Pin(cursor_, now);
    }
  } else if (bytes != 0 || !cursor_.pinned()) {
    PinAt(log, now);
  }
  return result;
}

Outbox::Skipped Outbox::SkipTo(BroadcastLog& log, const Boundary& target, bool begun) {
  assert(cursor_.pinned() && limit_.position == kNever);
  const Position at = log.PositionOf(cursor_);
  const bool direct_is_next = direct_ != nullptr && direct_->Due(0) <= at;
  const Boundary next = begun && !direct_is_next ? log.FirstFrameFrom(at + 1) : NextFrame(log);
  if (at >= target.position || next.position >= target.position) return {};
  Skipped result;
  result.written = next.ordinal - counted_.ordinal;
  if (next.position != at) {
    --result.written;  // of the frame it stands in, the rest is still to be sent
    const BroadcastLog::Tail tail = log.TailFrom(at, next.position);
    if (direct_ == nullptr) direct_ = std::make_unique<DirectQueue>();
    direct_->PushTail(tail.frame, tail.offset);
  }
  result.skipped = target.ordinal - next.ordinal;
  counted_ = target;
  log.Pin(cursor_, target.position);
  return result;
}

Outbox::Abandoned Outbox::Abandon(BroadcastLog& log) {
  Abandoned result;
  const Position at = log.PositionOf(cursor_);
  const Boundary limit = Limit(log);
  Boundary next = NextFrame(log);
  if (next.position != at) --next.ordinal;  // the frame it stands in has not been sent wholly
  result.written = next.ordinal - Counted(log).ordinal;
  result.dropped = limit.ordinal - next.ordinal + (direct_ == nullptr ? 0 : direct_->size());
  direct_.reset();
  log.Unpin(cursor_);
  return result;
}

std::uint64_t Outbox::CountWritten(const BroadcastLog& log) {
  if (!cursor_.pinned()) return 0;
  Boundary next = NextFrame(log);
  if (next.position != log.PositionOf(cursor_)) {
    // It stands inside a frame, whose start is not known any more; only the count is taken.
    next = {counted_.position, next.ordinal - 1};
  }
  const std::uint64_t written = next.ordinal - counted_.ordinal;
  counted_ = next;
  return written;
}

std::uint64_t Outbox::Lag(const BroadcastLog& log) const {
  return Limit(log).position - log.PositionOf(cursor_) + direct_bytes();
}

std::uint64_t Outbox::Beyond(const BroadcastLog& log) const {
  return log.end().position - Limit(log).position;
}

std::uint64_t Outbox::Queued(const BroadcastLog& log) const {
  return Limit(log).ordinal - Counted(log).ordinal + (direct_ == nullptr ? 0 : direct_->size());
}

void Outbox::PinAt(BroadcastLog& log, Position position) {
  if (!cursor_.pinned()) counted_ = log.mark();
  log.Pin(cursor_, position);
}

Boundary Outbox::NextFrame(const BroadcastLog& log) const {
  const Position at = log.PositionOf(cursor_);
  const Boundary& counted = Counted(log);
  return counted.position == at ? counted : log.FirstFrameFrom(at);
}

}  // namespace evrelay
