// ControlPort: the Unix socket through which an operator asks the running daemon. Speaks list
// frames: one request, one answer, in order.
//   status  →  ok JSON (admin/status.h)        ping  →  ok
//
// Memory: at most kMaxConnections; one unread answer each, as a connection is not read while it has
// an answer unsent.
// Thread safety: none; the loop thread.

#ifndef EVRELAY_ADMIN_CONTROL_PORT_H_
#define EVRELAY_ADMIN_CONTROL_PORT_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "codec/framing.h"
#include "config/config.h"
#include "event/io_event.h"
#include "event/loop.h"
#include "net/listener.h"
#include "net/unix_socket.h"
#include "util/unique_fd.h"

namespace evrelay {

class ControlPort final : private Listener::Handler {
 public:
  static constexpr std::size_t kMaxConnections = 64;
  static constexpr std::size_t kMaxRequest = 64 * 1024;  // bytes

  // `status` gives the JSON text. Throws as UnixSocketPath does.
  ControlPort(Loop& loop, const ControlConfig& config, std::function<std::string()> status);
  ~ControlPort();

  std::string name() const { return listener_.name(); }

 private:
  class Session;

  void OnAccept(UniqueFd fd, const SocketAddress& peer) noexcept override;
  void OnAcceptShed() noexcept override {}
  std::string Answer(std::string_view request);
  void Destroy(Session& session);

  Loop& loop_;
  std::function<std::string()> status_;
  UnixSocketPath path_;
  Listener listener_;
  std::vector<std::unique_ptr<Session>> sessions_;
};

}  // namespace evrelay

#endif  // EVRELAY_ADMIN_CONTROL_PORT_H_
