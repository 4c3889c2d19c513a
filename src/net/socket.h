// Options of borrowed sockets, and blocking connects for the client commands. Any thread.

#ifndef EVRELAY_NET_SOCKET_H_
#define EVRELAY_NET_SOCKET_H_

#include <cstdint>
#include <string>

#include "util/unique_fd.h"

namespace evrelay {

// The kernel is asked for these; a socket that cannot have them (Unix, or already reset) works on
// without.
void SetNoDelay(int fd) noexcept;
void SetKeepAlive(int fd) noexcept;  // 15 s idle, then 3 probes 5 s apart
// SO_SNDBUF; the kernel doubles it for its own bookkeeping and caps it by net.core.wmem_max.
void SetSendBuffer(int fd, std::uint32_t bytes) noexcept;

// Throws std::system_error.
void SetNonBlocking(int fd);

// The socket is blocking and close-on-exec. On failure it is empty and `error` reads like
// "connect 127.0.0.1:8448: Connection refused". ConnectTcp tries every address of `host`, which has
// no brackets, in turn and tells of the last. An address that does not answer is given up after
// 10 s.
UniqueFd ConnectUnix(const std::string& path, std::string& error);
UniqueFd ConnectTcp(const std::string& host, std::uint16_t port, std::string& error);

}  // namespace evrelay

#endif  // EVRELAY_NET_SOCKET_H_
