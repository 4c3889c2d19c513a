// Handshakes: the connections of the subscriber port that are in their TLS handshake. They are no
// subscribers yet: the hub does not know them, and the script hears nothing of those that fail.
//
// Memory: 45 KiB each once it has said something, four times as much at most, for kTime at most;
// the port counts them as places of max_clients. Thread safety: none; the loop thread.

#ifndef EVRELAY_SUBSCRIBER_HANDSHAKES_H_
#define EVRELAY_SUBSCRIBER_HANDSHAKES_H_

#include <chrono>
#include <cstddef>
#include <memory>
#include <string_view>

#include "event/loop.h"
#include "event/timer_event.h"
#include "metrics/counters.h"
#include "net/address.h"
#include "net/peer_counts.h"
#include "net/tls.h"
#include "util/intrusive_list.h"

namespace evrelay {

class Handshakes {
 public:
  // How long one may take.
  static constexpr std::chrono::seconds kTime{5};

  class Handler {
   public:
    // A connection is through: it carries data from now on.
    virtual void OnHandshaken(std::unique_ptr<Transport> transport, const SocketAddress& peer,
                              PeerCounts::Place place) noexcept = 0;

   protected:
    ~Handler() = default;
  };

  Handshakes(Loop& loop, Counters& counters, Handler& handler);
  Handshakes(const Handshakes&) = delete;
  Handshakes& operator=(const Handshakes&) = delete;
  ~Handshakes();

  void Begin(std::unique_ptr<TlsTransport> transport, const SocketAddress& peer,
             PeerCounts::Place place);

  // Ends all of them.
  void DropAll();

  std::size_t size() const { return counters_.tls.handshaking; }

 private:
  struct ListTag;
  class Handshake;

  void GoOn(Handshake& handshake) noexcept;
  void Fail(Handshake& handshake, TlsFailure failure, std::string_view words);
  void Delete(Handshake& handshake);
  void OnDeadline() noexcept;

  Loop& loop_;
  Counters& counters_;
  Handler& handler_;
  IntrusiveList<Handshake, ListTag> handshakes_;  // owns them; in the order of their deadlines
  TimerEvent deadline_;
};

}  // namespace evrelay

#endif  // EVRELAY_SUBSCRIBER_HANDSHAKES_H_
