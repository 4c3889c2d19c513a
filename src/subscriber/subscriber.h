// Subscriber: one connection of the subscriber port. Uplink: reads become messages. Downlink: the
// outbox is sent when the hub says so.
// Thread safety: none; the loop thread.

#ifndef EVRELAY_SUBSCRIBER_SUBSCRIBER_H_
#define EVRELAY_SUBSCRIBER_SUBSCRIBER_H_

#include <string>
#include <string_view>

#include "codec/framing.h"
#include "config/config.h"
#include "event/io_event.h"
#include "event/loop.h"
#include "metrics/counters.h"
#include "net/address.h"
#include "relay/connection.h"
#include "relay/hub.h"
#include "util/unique_fd.h"

namespace evrelay {

// What all subscribers of a port share.
struct SubscriberContext {
  Loop& loop;
  Hub& hub;
  const Config& config;
  Counters& counters;
  std::string scratch;  // reads land here; sized once
};

class Subscriber final : public Connection {
 public:
  // Bytes read at a time.
  static constexpr std::size_t kReadSize = 64 * 1024;

  // `fd` is a connected, non-blocking stream socket.
  Subscriber(SubscriberContext& context, UniqueFd fd, const SocketAddress& peer);
  ~Subscriber() override;

  Sent Send(BroadcastLog& log) noexcept override;
  void StopReading() noexcept override;
  bool Linger() noexcept override;
  bool Delivered() const noexcept override;
  void Reset() noexcept override;
  std::string Peer() const override { return peer_.ToString(); }

 private:
  // What a read did to the subscriber: kGone means it has been destroyed.
  enum class After { kStays, kGone };

  void OnReady(unsigned ready) noexcept;
  After OnReadable();
  void OnChunk(std::string_view chunk);
  void OnMessage(std::string_view payload);

  SubscriberContext& context_;
  IoEvent event_;  // its descriptor is owned: closed by the destructor, after the watch has ended
  SocketAddress peer_;
  bool talked_ = false;     // it has ever sent something
  bool ended_ = false;      // its EOF has been read
  bool lingering_ = false;  // our side has ended; waiting for the peer's
  FrameReader reader_;
};

}  // namespace evrelay

#endif  // EVRELAY_SUBSCRIBER_SUBSCRIBER_H_
