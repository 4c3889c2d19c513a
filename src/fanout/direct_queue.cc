#include "fanout/direct_queue.h"

#include <cassert>
#include <utility>

namespace evrelay {

void DirectQueue::Push(Frame frame, Position due) {
  assert(frames_.empty() || frames_.back().due <= due);
  bytes_ += frame.wire().size();
  frames_.push_back({std::move(frame), due});
}

void DirectQueue::PushTail(std::string tail) {
  assert(tail_.empty() && sent_ == 0 && !tail.empty());
  tail_ = std::move(tail);
}

std::string_view DirectQueue::Unsent(std::size_t index) const {
  const std::string_view wire =
      tail_.empty() ? frames_[index].frame.wire()
                    : (index == 0 ? std::string_view(tail_) : frames_[index - 1].frame.wire());
  return index == 0 ? wire.substr(sent_) : wire;
}

Position DirectQueue::Due(std::size_t index) const {
  if (tail_.empty()) return frames_[index].due;
  return index == 0 ? 0 : frames_[index - 1].due;
}

bool DirectQueue::Sent(std::size_t n) {
  const bool done = n == Unsent(0).size();
  if (tail_.empty()) bytes_ -= n;
  sent_ += n;
  if (!done) return false;
  sent_ = 0;
  if (tail_.empty()) {
    frames_.pop_front();
  } else {
    std::string().swap(tail_);
  }
  return true;
}

}  // namespace evrelay
