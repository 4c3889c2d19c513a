// DirectQueue: frames for one subscriber alone, each with the log position at which it falls due:
// the log's end when it was queued, so always between two frames.
//
// Memory: bytes() counts what is queued; its owner bounds it. The frames' bytes are shared. Each
// frame counts kFrameCost more than it has bytes, as a small one takes more memory beside them.
// Thread safety: none; the loop thread.

#ifndef EVRELAY_FANOUT_DIRECT_QUEUE_H_
#define EVRELAY_FANOUT_DIRECT_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string_view>

#include "codec/frame.h"
#include "evrelay/ids.h"

namespace evrelay {

class DirectQueue {
 public:
  // What a frame takes besides its bytes: its place here, its own text and count of owners.
  static constexpr std::size_t kFrameCost = 96;

  void Push(Frame frame, Position due);

  // The rest of a log frame whose first bytes have been sent: `tail` without its first `sent`
  // bytes. Goes before all others, at once.
  void PushTail(Frame tail, std::size_t sent);

  bool empty() const { return !tail_ && frames_.empty(); }
  std::size_t size() const { return frames_.size() + (tail_ ? 1 : 0); }
  // Of the frames, kFrameCost each included; a tail, being less than one frame, is not counted.
  std::size_t bytes() const { return bytes_; }

  // What is still to be sent of item `index`, and where it falls due (a tail: 0).
  std::string_view Unsent(std::size_t index) const;
  Position Due(std::size_t index) const;

  // `n` bytes of item 0 have been sent; n <= Unsent(0).size(). True when that was its end.
  bool Sent(std::size_t n);

 private:
  struct Item {
    Frame frame;
    Position due;
  };

  std::optional<Frame> tail_;
  std::deque<Item> frames_;
  std::size_t sent_ = 0;   // bytes of item 0 that have been sent
  std::size_t bytes_ = 0;  // unsent bytes of frames_, and kFrameCost for each
};

}  // namespace evrelay

#endif  // EVRELAY_FANOUT_DIRECT_QUEUE_H_
