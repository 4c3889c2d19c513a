// Door: one listener of the subscriber port, who may come in by it, and how. Thread safety: none;
// the loop thread.

#ifndef EVRELAY_SUBSCRIBER_DOOR_H_
#define EVRELAY_SUBSCRIBER_DOOR_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "config/config.h"
#include "event/loop.h"
#include "metrics/counters.h"
#include "net/address.h"
#include "net/listener.h"
#include "net/tls.h"
#include "util/unique_fd.h"

namespace evrelay {

struct DoorRules {
  ListenConfig config;
  std::shared_ptr<const TlsContext> tls;  // made of config.tls; null: plain
};

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
  Door(Loop& loop, UniqueFd listening, std::string name, DoorRules rules, Counters& counters,
       Handler& handler);

  Listener& listener() { return listener_; }
  const std::string& name() const { return listener_.name(); }
  const DoorRules& rules() const { return rules_; }
  // For those who come from now on. The address stays.
  void SetRules(DoorRules rules) { rules_ = std::move(rules); }

 private:
  void OnAccept(UniqueFd fd, const SocketAddress& peer) noexcept override;
  void OnAcceptShed() noexcept override;
  bool Allows(const SocketAddress& peer) const;

  DoorRules rules_;
  Counters& counters_;
  Handler& handler_;
  Listener listener_;
};

}  // namespace evrelay

#endif  // EVRELAY_SUBSCRIBER_DOOR_H_
