// Opening listening TCP sockets, and accepting from a listening socket of any kind on the loop.

#ifndef EVRELAY_NET_LISTENER_H_
#define EVRELAY_NET_LISTENER_H_

#include <chrono>
#include <string>
#include <system_error>
#include <vector>

#include "event/io_event.h"
#include "event/loop.h"
#include "event/timer_event.h"
#include "net/address.h"
#include "util/unique_fd.h"

namespace evrelay {

// Connections the kernel completes before they are accepted: as many as it may, which is what
// net.core.somaxconn says.
inline constexpr int kListenBacklog = 65535;

// Another process, or a file that is not ours, holds the address. The process ends with exit
// code 3.
class AddressInUse : public std::system_error {
 public:
  explicit AddressInUse(const std::string& what)
      : std::system_error(EADDRINUSE, std::generic_category(), what) {}
};

// Opens one socket for every address that the host of `address` resolves to, each listening,
// non-blocking and close-on-exec; IPv6 ones take no IPv4. With port 0 each has a port of its own.
// An IPv6 address that this machine does not have is passed over, with a warning, if another one
// works. Throws AddressInUse, std::system_error, or std::runtime_error when the name does not
// resolve; the messages begin with what was tried, as in "bind 127.0.0.1:8448: ...". Not for Unix
// paths.
std::vector<UniqueFd> OpenTcpListeners(const BindAddress& address);

// "127.0.0.1:8448", with the real port, or "unix:/path", of a bound socket. Throws
// std::system_error.
std::string ListeningName(int fd);

// Accepts in batches while it exists and hands every connection to its handler. Lives on the loop
// thread.
//
// When file descriptors or socket memory are used up it gives up a spare descriptor to accept and
// close what is waiting, so that those peers know, then lets the socket rest for 100 ms. So the
// loop never spins on a connection that it cannot take. It says so in the log itself, at most once
// a second.
class Listener {
 public:
  class Handler {
   public:
    // `fd` is non-blocking and close-on-exec. May call SetPaused and Stop; must not destroy the
    // listener.
    virtual void OnAccept(UniqueFd fd, const SocketAddress& peer) noexcept = 0;
    // One connection was accepted and closed at once, as there was no descriptor to keep it. As
    // above.
    virtual void OnAcceptShed() noexcept = 0;

   protected:
    ~Handler() = default;
  };

  // `listening` is a listening stream socket; it is made non-blocking. `name`: for a socket that
  // was bound under another name than it has now (UnixSocketPath); empty: ask the kernel.
  // Throws std::system_error.
  Listener(Loop& loop, UniqueFd listening, Handler& handler, std::string name = {});

  // While paused, nobody is accepted; peers wait in the kernel's backlog.
  void SetPaused(bool paused);

  // Accepts now those who wait, as the loop does when there are any.
  void Accept();

  // Ends accepting and closes the socket; peers still waiting in it are reset. Again: no effect.
  void Stop();

  // "127.0.0.1:8448", with the real port, or "unix:/path".
  const std::string& name() const { return name_; }

 private:
  void OnReady(unsigned ready) noexcept;
  int ShedOne() noexcept;  // 0, or why it could not: an errno value
  void Rest(int error);
  void Resume() noexcept;

  UniqueFd fd_;
  UniqueFd spare_;  // what ShedOne gives up
  Handler& handler_;
  std::string name_;
  std::chrono::steady_clock::time_point next_report_{};
  IoEvent event_;
  TimerEvent resume_;
  bool paused_ = false;
};

}  // namespace evrelay

#endif  // EVRELAY_NET_LISTENER_H_
