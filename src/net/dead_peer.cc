#include "net/dead_peer.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

namespace evrelay {

namespace {

// How often a peer is asked in vain before its silence counts. One answer may be lost, and the
// kernel itself holds back all but two answers a second to questions about a window.
constexpr unsigned kResent = 2;
constexpr unsigned kProbes = 3;

}  // namespace

bool IsDeadPeerError(int error) {
  return error == ETIMEDOUT || error == EHOSTUNREACH || error == ENETUNREACH;
}

bool IsDeadPeer(const tcp_info& info, std::chrono::milliseconds patience) {
  // Data that acknowledges nothing new does not count as an acknowledgement in the first of them.
  const std::chrono::milliseconds silence(
      std::min(info.tcpi_last_ack_recv, info.tcpi_last_data_recv));
  const bool resent =
      info.tcpi_unacked != 0 && info.tcpi_retransmits >= kResent && info.tcpi_snd_wnd != 0;
  const bool unheard = resent || info.tcpi_probes >= kProbes;
  return unheard && silence >= patience;
}

bool IsDeadPeer(int fd, std::chrono::milliseconds patience) noexcept {
  tcp_info info{};
  info.tcpi_snd_wnd = 1;  // kernels before 5.4 do not tell
  socklen_t size = sizeof info;
  return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 && IsDeadPeer(info, patience);
}

}  // namespace evrelay
