// Connection: what the hub knows of a subscriber: an outbox, a name, and a way to send. The rest of
// a subscriber is its port's business.
//
// Life: Live from Hub::Admit; Closing from Hub::BeginClose, when no more is for it and what was due
// is still sent; then lingering until its peer has ended too; then destroyed by the hub, its owner.
// Thread safety: none; the loop thread.

#ifndef EVRELAY_RELAY_CONNECTION_H_
#define EVRELAY_RELAY_CONNECTION_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

#include "evrelay/ids.h"
#include "fanout/outbox.h"
#include "metrics/reasons.h"
#include "util/intrusive_list.h"

namespace evrelay {

struct SendQueueTag;
struct ClosingTag;

class Connection : public ListHook<SendQueueTag>, public ListHook<ClosingTag> {
 public:
  virtual ~Connection() = default;

  enum class SendResult : std::uint8_t {
    kDrained,  // everything due has been handed to the kernel
    kBlocked,  // the kernel takes no more; the connection tells the hub when it does (OnWritable)
    kBroken,   // the peer is gone
  };
  struct Sent {
    SendResult result;
    std::size_t bytes;
  };
  // Hands what is due to the kernel. Called by the hub's flush only.
  virtual Sent Send(BroadcastLog& log) noexcept = 0;

  // Closing has begun: read no more messages.
  virtual void StopReading() noexcept = 0;

  // All that was due has been sent: end our side. False: nothing to wait for, destroy it now. True:
  // it throws away what the peer still sends, as unread bytes would turn the close into a reset
  // that can take sent frames with it, and calls Hub::OnGone when the peer has ended its side.
  virtual bool Linger() noexcept = 0;

  // The peer's kernel has taken all that was sent.
  virtual bool Delivered() const noexcept = 0;

  // It is to be destroyed with frames unsent: make the peer see a reset, not an orderly end.
  virtual void Reset() noexcept = 0;

  // For the log: its address.
  virtual std::string Peer() const = 0;

  Outbox& outbox() { return outbox_; }
  ConnectionId id() const { return id_; }
  bool closing() const { return closing_; }

 private:
  friend class Hub;

  enum class Queue : std::uint8_t { kNone, kCaughtUp, kDue, kBlocked, kLingering };

  Outbox outbox_;
  ConnectionId id_;
  bool closing_ = false;
  Queue queue_ = Queue::kNone;
  CloseReason close_reason_ = CloseReason::kEof;
  std::chrono::steady_clock::time_point progress_;  // blocked: when the kernel last took bytes
  std::chrono::steady_clock::time_point deadline_;  // closing, lingering: when patience ends
};

}  // namespace evrelay

#endif  // EVRELAY_RELAY_CONNECTION_H_
