// ControlPort: the Unix socket through which an operator asks the running daemon. Speaks list
// frames: one request, one answer, in order.
//   status          →  ok JSON (admin/status.h)
//   clients [FROM]  →  ok JSON (admin/clients.h)
//   close CONIDX    →  ok once its close has begun
//   reload          →  ok once it has been done, with what needs a restart, one a line; error
//                      reload-failed, with an error a line
//   drain           →  ok at once; what follows is the connection's end
//   ping            →  ok
//
// Memory: at most kMaxConnections; one unread answer each, as a connection is not read while it has
// an answer unsent or waits for a reload.
// Thread safety: none; the loop thread.

#ifndef EVRELAY_ADMIN_CONTROL_PORT_H_
#define EVRELAY_ADMIN_CONTROL_PORT_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "codec/framing.h"
#include "config/config.h"
#include "event/hangup_event.h"
#include "event/io_event.h"
#include "event/loop.h"
#include "net/listener.h"
#include "net/unix_socket.h"
#include "relay/hub.h"
#include "util/unique_fd.h"

namespace evrelay {

class ControlPort final : private Listener::Handler {
 public:
  static constexpr std::size_t kMaxConnections = 64;
  static constexpr std::size_t kMaxRequest = 64 * 1024;  // bytes
  // So many connections `clients` tells of at a time: what it takes is a small part of a turn.
  static constexpr std::size_t kMaxClients = 1000;

  // What the daemon does at an operator's word.
  class Operator {
   public:
    // The document of `status`.
    virtual std::string Status() = 0;
    // Wants a reload that begins after this call: the number that OnReloaded will have. None: the
    // relay drains, so that there will be no more.
    virtual std::optional<std::uint64_t> WantReload() = 0;
    // Begins to drain; nothing happens when that has begun before.
    virtual void Drain() = 0;

   protected:
    ~Operator() = default;
  };

  // Throws as UnixSocketPath does.
  ControlPort(Loop& loop, const ControlConfig& config, Hub& hub, Operator& daemon);
  ~ControlPort();

  std::string name() const { return listener_.name(); }

  // The reload with this number has been done, or has changed nothing; and what there is to say.
  void OnReloaded(std::uint64_t number, bool done, const std::vector<std::string>& lines);
  // The relay drains: there will be no more reloads.
  void OnDrain();

 private:
  class Session;

  void OnAccept(UniqueFd fd, const SocketAddress& peer) noexcept override;
  void OnAcceptShed() noexcept override {}
  // Empty: the answer comes with OnReloaded or OnDrain.
  std::string Answer(Session& session, std::string_view request);
  std::string Clients(std::string_view from);
  std::string Close(std::string_view conidx);
  std::string Reload(Session& session);
  void Destroy(Session& session);

  Loop& loop_;
  Hub& hub_;
  Operator& daemon_;
  HangupPoll hangups_;
  UnixSocketPath path_;
  Listener listener_;
  std::vector<std::unique_ptr<Session>> sessions_;
};

}  // namespace evrelay

#endif  // EVRELAY_ADMIN_CONTROL_PORT_H_
