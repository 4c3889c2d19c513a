// Subscriber: one connection of the subscriber port. Uplink: reads become messages, which go to the
// connection's worker. Downlink: the outbox is sent when the hub says so.
//
// Memory: messages that the worker has not handled yet are bounded by kMaxUnhandled and
// kMaxUnhandledBytes, and one read more; above that this subscriber is not read.
// Thread safety: none; the loop thread.

#ifndef EVRELAY_SUBSCRIBER_SUBSCRIBER_H_
#define EVRELAY_SUBSCRIBER_SUBSCRIBER_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "codec/framing.h"
#include "config/config.h"
#include "event/io_event.h"
#include "event/loop.h"
#include "metrics/counters.h"
#include "net/address.h"
#include "net/peer_counts.h"
#include "net/transport.h"
#include "relay/connection.h"
#include "relay/hub.h"
#include "subscriber/frame_timer.h"
#include "worker/worker_pool.h"

namespace evrelay {

// What all subscribers of a port share.
struct SubscriberContext {
  Loop& loop;
  Hub& hub;
  WorkerPool& workers;
  const Config& config;
  Counters& counters;
  std::string scratch;  // reads land here; sized once
  FrameTimer frame_timer{loop, config};
};

class Subscriber final : public Connection, public BegunFrame {
 public:
  // Bytes read at a time.
  static constexpr std::size_t kReadSize = 64 * 1024;
  static constexpr std::uint32_t kMaxUnhandled = 1024;
  static constexpr std::uint64_t kMaxUnhandledBytes = 256 * kKiB;
  // How long a peer may leave unacknowledged what it was sent.
  static constexpr std::chrono::seconds kAckTime{30};

  Subscriber(SubscriberContext& context, std::unique_ptr<Transport> transport,
             const SocketAddress& peer, PeerCounts::Place place);

  bool AnnounceNew() override;
  bool AnnounceClosed(CloseReason reason) noexcept override;
  void OnHandled(std::uint32_t messages, std::uint64_t bytes) noexcept override;
  Sent Send(BroadcastLog& log) noexcept override;
  void StartReading() noexcept override;
  void StopReading() noexcept override;
  bool Linger() noexcept override;
  bool Delivered() const noexcept override;
  bool Unreachable() const noexcept override;
  void Reset() noexcept override;
  std::uint32_t Unhandled() const override { return unhandled_; }
  std::string Peer() const noexcept override;
  std::string PeerName() const override { return transport_->peer_name(); }
  bool HasBegun() const noexcept override { return transport_->has_begun(); }

  // A frame of it has taken longer than frame_timeout.
  void OnFrameTimeout() noexcept;

 private:
  // What a read did to the subscriber.
  enum class After {
    kNothing,  // nothing had come
    kRead,
    kGone,  // it has been destroyed
  };

  void OnReady(unsigned ready) noexcept;
  After OnReadable();
  void OnChunk(std::string_view chunk);
  // Decodes `chunk` to its end or to a frame that ends the connection, for the reason returned.
  std::optional<CloseReason> Decode(std::string_view chunk, MessageBatch& messages);
  void OnMessages(MessageBatch messages);
  void WatchInput();
  // Lingering: our end has not been said wholly, and may be now.
  void OnLastWords();
  void TimeFrame();
  bool Reads() const;
  Origin origin() const;

  SubscriberContext& context_;
  const PeerCounts::Place place_;
  const std::unique_ptr<Transport> transport_;
  IoEvent event_;
  SocketAddress peer_;
  bool announced_ = false;       // the script knows it
  bool reading_ = false;         // its messages are wanted
  bool talked_ = false;          // it has ever sent something
  bool ended_ = false;           // its EOF has been read
  bool lingering_ = false;       // our side has ended; waiting for the peer's
  std::uint32_t unhandled_ = 0;  // messages at the worker
  std::uint64_t unhandled_bytes_ = 0;
  FrameReader reader_;
};

}  // namespace evrelay

#endif  // EVRELAY_SUBSCRIBER_SUBSCRIBER_H_
