#include "fanout/direct_queue.h"

#include <cassert>
#include <utility>

namespace evrelay {

void DirectQueue::Push(Frame frame, Position due) {
  assert(frames_.empty() || frames_.back().due <= due);
  const std::size_t bytes = kFrameCost + frame.wire().size();
  frames_.push_back({std::move(frame), due});
  bytes_ += bytes;
}

void DirectQueue::PushTail(Frame tail, std::size_t sent) {
  assert(!tail_ && sent_ == 0 && sent < tail.wire().size());
  tail_ = std::move(tail);
  sent_ = sent;
}

std::string_view DirectQueue::Unsent(std::size_t index) const {
  if (index == 0) return (tail_ ? *tail_ : frames_.front().frame).wire().substr(sent_);
  return frames_[tail_ ? index - 1 : index].frame.wire();
}

Position DirectQueue::Due(std::size_t index) const {
  if (!tail_) return frames_[index].due;
  return index == 0 ? 0 : frames_[index - 1].due;
}

bool DirectQueue::Sent(std::size_t n) {
  const bool done = n == Unsent(0).size();
  if (!tail_) bytes_ -= n;
  sent_ += n;
  if (!done) return false;
  sent_ = 0;
  if (tail_) {
    tail_.reset();
  } else {
    frames_.pop_front();
    bytes_ -= kFrameCost;
  }
  return true;
}

}  // namespace evrelay
