// ProducerPort: the Unix socket where events come in, and who is connected to it.
//
// Intake is bounded by the turn: all producers together are read kTurnIntake bytes, in turns and in
// fair shares, so that one firehose neither starves the others nor delays the flush. The daemon
// calls Intake, then the hub's Flush, then SendAnswers: an `ok` is never written before its event
// is in the log.
//
// Producers are read into the log, behind the place for what they have kept of a frame. So a data
// frame in canonical form is received where it will stand; whatever else they say takes no more
// bytes in the log than it had, and overwrites nothing that has not been heard.
// Thread safety: none; the loop thread.

#ifndef EVRELAY_PRODUCER_PRODUCER_PORT_H_
#define EVRELAY_PRODUCER_PRODUCER_PORT_H_

#include <cstddef>
#include <optional>
#include <span>
#include <string>

#include "codec/request.h"
#include "config/config.h"
#include "event/hangup_event.h"
#include "event/loop.h"
#include "metrics/counters.h"
#include "net/listener.h"
#include "net/unix_socket.h"
#include "producer/producer.h"
#include "relay/hub.h"
#include "util/intrusive_list.h"

namespace evrelay {

class ProducerPort final : private Listener::Handler {
 public:
  // Bytes taken from all producers together in one turn of the loop.
  static constexpr std::size_t kTurnIntake = Hub::kTurnIntake;
  // The least that is read from a producer whose turn it is.
  static constexpr std::size_t kMinShare = 4 * 1024;
  // What can be read at once wherever the log ends, and the longest beginning of a frame whose rest
  // is received into the log.
  static constexpr std::size_t kMinRoom = 64 * 1024;
  // What each producer may still say once the relay drains, in bytes.
  static constexpr std::size_t kDrainIntake = 1024 * 1024;

  // Binds config.producer.socket, or takes the `activated` socket in its place.
  // Throws AddressInUse or std::system_error.
  ProducerPort(Loop& loop, Hub& hub, const Config& config, Counters& counters, UniqueFd activated);
  ~ProducerPort();

  void Intake();
  void SendAnswers();

  // While held, no producer is read (policy block).
  void SetHeld(bool held);

  // producer.allow may have changed.
  void OnReload();

  // Accepts no more; reads each producer for the last time and begins to close it.
  void Drain();

  std::size_t connections() const { return connections_; }
  const std::string& name() const { return listener_->name(); }

 private:
  friend class Producer;

  void OnAccept(UniqueFd fd, const SocketAddress& peer) noexcept override;
  void OnAcceptShed() noexcept override;
  void Destroy(Producer& producer);
  // Where a producer is read that has kept `held` bytes of a frame.
  std::span<char> Room(std::size_t held);

  Loop& loop_;
  Hub& hub_;
  const Config& config_;
  Counters& counters_;
  HangupPoll hangups_;
  RequestParser parser_;
  std::string scratch_;                 // what cannot be received into the log
  std::optional<UnixSocketPath> path_;  // none: the socket is systemd's
  std::optional<Listener> listener_;
  IntrusiveList<Producer, AllProducersTag> all_;  // owned
  IntrusiveList<Producer, ReadableTag> readable_;
  // Since the last intake, in the order of their events: libev calls the last one first.
  IntrusiveList<Producer, ReadableTag> newly_readable_;
  IntrusiveList<Producer, AnsweringTag> answering_;
  std::size_t connections_ = 0;
  bool held_ = false;
  bool draining_ = false;
};

}  // namespace evrelay

#endif  // EVRELAY_PRODUCER_PRODUCER_PORT_H_
