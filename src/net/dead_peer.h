// How TCP tells that a peer is gone without a word: its machine, or the way to it. Any thread.

#ifndef EVRELAY_NET_DEAD_PEER_H_
#define EVRELAY_NET_DEAD_PEER_H_

#include <linux/tcp.h>  // netinet/tcp.h has an old tcp_info; the two cannot be together

#include <chrono>

namespace evrelay {

// The errors with which a connection ends that way; keepalive, for one, says ETIMEDOUT.
bool IsDeadPeerError(int error);

// What was sent is not acknowledged though it was sent again, or a closed window was asked after in
// vain, and nothing at all has come for `patience`. A peer that is there answers both, however long
// it leaves its window closed; and that it has been silent for long says nothing before it has been
// asked. Where the window was closed over what is in flight, the kernel does not tell whether it
// gets answers; it gives such a peer up itself, after some minutes.
bool IsDeadPeer(const tcp_info& info, std::chrono::milliseconds patience);

// The same of a socket; false where TCP_INFO cannot be had.
bool IsDeadPeer(int fd, std::chrono::milliseconds patience) noexcept;

}  // namespace evrelay

#endif  // EVRELAY_NET_DEAD_PEER_H_
