// SubscriberPort: the listeners of bind_addr. Lets connections in, up to max_clients and
// max_clients_per_ip, accept_rate a second, and makes each a Subscriber of the hub. Thread safety:
// none; the loop thread.

#ifndef EVRELAY_SUBSCRIBER_SUBSCRIBER_PORT_H_
#define EVRELAY_SUBSCRIBER_SUBSCRIBER_PORT_H_

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "event/timer_event.h"
#include "net/peer_counts.h"
#include "net/unix_socket.h"
#include "subscriber/accept_rate.h"
#include "subscriber/door.h"
#include "subscriber/handshakes.h"
#include "subscriber/subscriber.h"

namespace evrelay {

class SubscriberPort final : private Door::Handler, private Handshakes::Handler {
 public:
  // Reads the certificates of config.bind_addr, and says what their subscribers will not like.
  // Throws std::runtime_error when they cannot be used. Opens nothing.
  static std::vector<std::string> CheckCertificates(const Config& config);

  // Between two such configurations the listeners stay, though what holds for them may change.
  static bool SameListeners(const Config& now, const Config& next);

  // Binds all of config.bind_addr, or takes `activated` sockets in their place when there are any;
  // each then has what bind_addr says of its address. `peers` must outlive the hub, which has the
  // connections. Throws AddressInUse, std::system_error or
  // std::runtime_error; then nothing stays bound.
  SubscriberPort(Loop& loop, Hub& hub, WorkerPool& workers, const Config& config,
                 Counters& counters, PeerCounts& peers, std::vector<UniqueFd> activated);

  // Accepts no more and drops those that are in their handshake. Subscribers stay.
  void Stop();

  // What holds for each of the doors with another configuration; certificates are read again, also
  // when the listeners differ, so that only a restart can change them. Throws std::runtime_error
  // when some cannot be used.
  std::vector<DoorRules> RulesOf(const Config& next) const;
  void SetRules(std::vector<DoorRules> rules);

  // The configuration has changed.
  void OnReload();

  // What subscribers will not like about the certificates.
  std::vector<std::string> Warnings() const;

  // Where it listens, with real port numbers.
  std::vector<std::string> names() const;

 private:
  void OnArrival(const Door& door, UniqueFd fd, const SocketAddress& peer) noexcept override;
  void OnHandshaken(std::unique_ptr<Transport> transport, const SocketAddress& peer,
                    PeerCounts::Place place) noexcept override;
  void Open(UniqueFd listening, std::string name, const ListenConfig& config);
  // Closes the doors for a while if accept_rate lets nobody in now. Whether it does.
  bool Rest();
  void GoOn() noexcept;

  SubscriberContext context_;
  PeerCounts& peers_;
  Handshakes handshakes_;
  std::deque<UnixSocketPath> paths_;
  std::deque<Door> doors_;
  AcceptRate accept_rate_;
  TimerEvent go_on_;       // while the doors are closed for accept_rate
  std::size_t first_ = 0;  // the door that was served first when they last opened
};

}  // namespace evrelay

#endif  // EVRELAY_SUBSCRIBER_SUBSCRIBER_PORT_H_
