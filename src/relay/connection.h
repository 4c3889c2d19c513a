// Connection: what the hub knows of a subscriber: an outbox, a name, and a way to send. The rest of
// a subscriber is its port's business.
//
// Life: see State; then lingering until its peer has ended too; then destroyed by the hub, its
// owner. What the script is to know of it, it says to the script itself, when the hub asks it to.
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
struct WatchTag;

class Connection : public ListHook<SendQueueTag>, public ListHook<WatchTag> {
 public:
  virtual ~Connection() = default;

  enum class State : std::uint8_t {
    kAdmitting,  // connection-new is being decided; gets every event, but is neither read nor sent
                 // to
    kLive,
    kEnding,   // no more is read; gets every event until its connection-closed has run
    kClosing,  // nothing new is for it; what was due is still sent
  };

  // Tells the script of the connection, if there is one. True: its connection-new is to decide. May
  // throw std::bad_alloc; the script does not know it then.
  virtual bool AnnounceNew() = 0;
  // Tells the script of its end. Called once at most. False: the script does not know it, so no
  // connection-closed is to be waited for.
  virtual bool AnnounceClosed(CloseReason reason) noexcept = 0;

  // The script is done with so many of its messages, of so many bytes.
  virtual void OnHandled(std::uint32_t messages, std::uint64_t bytes) noexcept = 0;

  enum class SendResult : std::uint8_t {
    kDrained,  // everything due has been handed to the kernel
    kBlocked,  // the kernel takes no more; the connection tells the hub when it does (OnWritable)
    kBroken,   // the connection has ended
    kDead,     // likewise: its peer does not answer
    kStarved,  // likewise: there was no memory for what is due
  };
  struct Sent {
    SendResult result;
    std::size_t bytes;  // that the kernel has taken
  };
  // Hands what is due to the kernel. Called by the hub's flush only.
  virtual Sent Send(BroadcastLog& log) noexcept = 0;

  // Of the next byte that is due, which does not count as sent: it is on its way all the same, so
  // its frame has begun.
  virtual bool HasBegun() const noexcept { return false; }

  // It is live: its messages are to be read.
  virtual void StartReading() noexcept = 0;
  // No more messages are to be read.
  virtual void StopReading() noexcept = 0;

  // All that was due has been sent: end our side. False: nothing to wait for, destroy it now. True:
  // it throws away what the peer still sends, as unread bytes would turn the close into a reset
  // that can take sent frames with it, and calls Hub::OnGone when the peer has ended its side.
  virtual bool Linger() noexcept = 0;

  // The peer's kernel has taken all that was sent.
  virtual bool Delivered() const noexcept = 0;

  // It has not, and has not answered for so long that it must be gone.
  virtual bool Unreachable() const noexcept = 0;

  // It is to be destroyed with frames unsent: make the peer see a reset, not an orderly end.
  virtual void Reset() noexcept = 0;

  // Messages of it that the script is not done with.
  virtual std::uint32_t Unhandled() const = 0;

  // For the log: its address; empty when there is no memory for it.
  virtual std::string Peer() const noexcept = 0;
  // What its certificate calls it; empty: nothing.
  virtual std::string PeerName() const { return {}; }

  Outbox& outbox() { return outbox_; }
  ConnectionId id() const { return id_; }
  State state() const { return state_; }
  std::chrono::steady_clock::time_point accepted() const { return accepted_; }

 private:
  friend class Hub;

  enum class Queue : std::uint8_t {
    kNone,
    kAdmitting,
    kCaughtUp,
    kDue,
    kBlocked,
    kLingering,
  };

  Outbox outbox_;
  ConnectionId id_;
  State state_ = State::kAdmitting;
  Queue queue_ = Queue::kNone;
  bool end_announced_ = false;  // close_reason_ is set; the script has been told, if there is one
  bool awaits_closed_ = false;  // connection-closed is still to run
  CloseReason close_reason_ = CloseReason::kEof;
  const std::chrono::steady_clock::time_point accepted_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point progress_;  // blocked: when the kernel last took bytes
  // Admitting, closing, lingering: when patience ends.
  std::chrono::steady_clock::time_point deadline_;
};

}  // namespace evrelay

#endif  // EVRELAY_RELAY_CONNECTION_H_
