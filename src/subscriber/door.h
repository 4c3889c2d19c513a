// Door: one listener of the subscriber port, and who may come in by it. Thread safety: none; the
// loop thread.

#ifndef EVRELAY_SUBSCRIBER_DOOR_H_
#define EVRELAY_SUBSCRIBER_DOOR_H_

#include <string>
#include <vector>

#include "config/config.h"
#include "event/loop.h"
#include "metrics/counters.h"
#include "net/address.h"
#include "net/listener.h"
#include "util/unique_fd.h"

namespace evrelay {

class Door final : private Listener::Handler {
 public:
  class Handler {
   public:
    // `fd` is non-blocking and close-on-exec; its peer may come in by this door.
    virtual void OnArrival(const Door& door, UniqueFd fd, const SocketAddress& peer) noexcept = 0;

   protected:
    ~Handler() = default;
  };

  // `listening`, `name`: as Listener has them. Throws std::system_error.
  Door(Loop& loop, UniqueFd listening, std::string name, ListenConfig config, Counters& counters,
       Handler& handler);

  Listener& listener() { return listener_; }
  const std::string& name() const { return listener_.name(); }
  const ListenConfig& config() const { return config_; }

 private:
  void OnAccept(UniqueFd fd, const SocketAddress& peer) noexcept override;
  void OnAcceptShed() noexcept override;
  bool Allows(const SocketAddress& peer) const;

  const ListenConfig config_;
  Counters& counters_;
  Handler& handler_;
  Listener listener_;
};

}  // namespace evrelay

#endif  // EVRELAY_SUBSCRIBER_DOOR_H_
