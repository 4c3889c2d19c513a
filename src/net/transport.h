// Transport: a connected stream socket, and how bytes cross it: as they are (PlainTransport), or
// through TLS. It owns the socket, which is non-blocking, and never waits. Thread safety: none.

#ifndef EVRELAY_NET_TRANSPORT_H_
#define EVRELAY_NET_TRANSPORT_H_

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "util/unique_fd.h"

namespace evrelay {

class Transport {
 public:
  explicit Transport(UniqueFd fd) : fd_(std::move(fd)) {}
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;
  virtual ~Transport() = default;

  int fd() const { return fd_.get(); }

  enum class Status : std::uint8_t {
    kSome,    // `bytes` are there, at least 1
    kAgain,   // nothing now
    kEnd,     // the peer has ended its side
    kBroken,  // the connection is of no more use; `error` says why
  };
  struct Received {
    Status status;
    std::size_t bytes = 0;
    int error = 0;  // errno; 0: not the socket's, but the peer's words
  };
  // Reads at most `room` bytes, of which there are kMinRoom.
  virtual Received Receive(char* to, std::size_t room) noexcept = 0;
  static constexpr std::size_t kMinRoom = 32 * 1024;

  // Some has been received that Receive has not given yet: the socket may not become readable for
  // it.
  virtual bool holds_input() const noexcept { return false; }

  struct Sent {
    bool broken = false;  // `error` says why
    std::size_t bytes = 0;
    std::size_t moved = 0;  // bytes that the kernel has taken, of earlier calls' as well
    int error = 0;
  };
  // Writes `pieces` one after another. When less than all is written, no more is taken until the
  // socket is writable; the next call must then begin with the first byte that was not, though
  // what follows that byte may be other bytes.
  virtual Sent Send(const iovec* pieces, std::size_t count) noexcept = 0;

  // The first byte that counts as not written is on its way all the same: the frame that it
  // belongs to has begun.
  virtual bool has_begun() const noexcept { return false; }

  enum class Ended : std::uint8_t {
    kDone,
    kAgain,   // call it again when the socket is writable
    kBroken,  // the connection is gone
  };
  // Ends our side; call it when all has been written.
  virtual Ended EndSending() noexcept = 0;

  // Who the peer's certificate says it is; empty: it has shown none, or has no name in it.
  virtual std::string peer_name() const { return {}; }

  // After kBroken without an errno: what the peer did, for a person to read.
  virtual std::string trouble() const { return {}; }

 protected:
  // Receive and Send of the socket itself.
  Received ReceivePlain(char* to, std::size_t room) noexcept;
  Sent SendPlain(const iovec* pieces, std::size_t count) noexcept;

 private:
  UniqueFd fd_;
};

class PlainTransport final : public Transport {
 public:
  using Transport::Transport;

  Received Receive(char* to, std::size_t room) noexcept override { return ReceivePlain(to, room); }
  Sent Send(const iovec* pieces, std::size_t count) noexcept override {
    return SendPlain(pieces, count);
  }
  Ended EndSending() noexcept override;
};

}  // namespace evrelay

#endif  // EVRELAY_NET_TRANSPORT_H_
