#include <sys/socket.h>

#include <cerrno>

#include "net/transport.h"

namespace evrelay {

Transport::Received Transport::ReceivePlain(char* to, std::size_t room) noexcept {
  ssize_t n;
  do {
    n = recv(fd(), to, room, MSG_DONTWAIT);
  } while (n < 0 && errno == EINTR);
  if (n > 0) return {Status::kSome, static_cast<std::size_t>(n)};
  if (n == 0) return {Status::kEnd};
  if (errno == EAGAIN) return {Status::kAgain};
  return {Status::kBroken, 0, errno};
}

Transport::Sent Transport::SendPlain(const iovec* pieces, std::size_t count) noexcept {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(pieces);  // sendmsg only reads them
  message.msg_iovlen = count;
  ssize_t n;
  do {
    n = sendmsg(fd(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (n < 0 && errno == EINTR);
  if (n >= 0) return {.bytes = static_cast<std::size_t>(n), .moved = static_cast<std::size_t>(n)};
  // Short of memory for now: like a full buffer.
  if (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM) return {};
  return {.broken = true, .error = errno};
}

Transport::Ended PlainTransport::EndSending() noexcept {
  return shutdown(fd(), SHUT_WR) == 0 ? Ended::kDone : Ended::kBroken;
}

}  // namespace evrelay
