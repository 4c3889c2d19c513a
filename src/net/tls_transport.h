// The TlsTransport that there is: a TlsSession on a socket.
//
// Sending: up to kChunk bytes are encrypted at a time, so that a large drain takes few calls of the
// kernel. When the socket is full, what it has not taken of the ciphertext stays here, and of the
// plaintext all but the last byte counts as written: so whoever sends knows that it is not done,
// and offers that byte first the next time. It is already encrypted, and counts once the kernel has
// taken all that stayed here.
//
// Receiving: no more ciphertext is read than what surely has room as plaintext. So what has been
// received has been given, but for the start of a record, and for what came with the handshake.
//
// Memory: ciphertext that the socket does not take: of one chunk, and what the peer makes us
// answer. More than kMaxUnsent of both breaks the connection.

#ifndef EVRELAY_NET_TLS_TRANSPORT_H_
#define EVRELAY_NET_TLS_TRANSPORT_H_

#include <cstddef>
#include <string>

#include "net/tls.h"
#include "net/tls_session.h"

namespace evrelay {

class SessionTransport final : public TlsTransport {
 public:
  static constexpr std::size_t kChunk = 4 * TlsSession::kMaxRecord;
  static constexpr std::size_t kMaxUnsent = 2 * kChunk;

  SessionTransport(UniqueFd fd, ssl_ctx_st* context, TlsSession::Side side)
      : TlsTransport(std::move(fd)), session_(context, side) {}

  bool Expect(const std::string& server) { return session_.Expect(server); }

  Handshaken Handshake() noexcept override;
  Received Receive(char* to, std::size_t room) noexcept override;
  bool holds_input() const noexcept override {
    return over_ != TlsSession::Result::kWantsInput || !early_.empty();
  }
  Sent Send(const iovec* pieces, std::size_t count) noexcept override;
  bool has_begun() const noexcept override { return begun_; }
  Ended EndSending() noexcept override;
  std::string peer_name() const override { return peer_name_; }
  std::string trouble() const override { return session_.words(); }

 private:
  Received Decrypt(char* to, std::size_t room);
  bool Flush(Sent& sent);

  TlsSession session_;
  std::string early_;  // ciphertext that came with the end of the handshake
  std::string peer_name_;
  bool handshaken_ = false;  // only the last of our own words may still have to be sent
  // kEnd or kFailed once the session has said so. It is not asked again: it would not say the same.
  TlsSession::Result over_ = TlsSession::Result::kWantsInput;
  bool begun_ = false;   // the next byte of plaintext has been encrypted
  bool ending_ = false;  // the session has been ended
};

}  // namespace evrelay

#endif  // EVRELAY_NET_TLS_TRANSPORT_H_
