#include "net/tls_transport.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <new>
#include <system_error>

namespace evrelay {
namespace {

// Read at a time while there is a handshake.
constexpr std::size_t kHandshakeRead = 16 * 1024;
// And after it.
constexpr std::size_t kRead = 48 * 1024;

// The bytes of several pieces as one run.
class Run {
 public:
  Run(const iovec* pieces, std::size_t count) : piece_(pieces), end_(pieces + count) {}

  // Copies at most `room` bytes, and steps over them; their number.
  std::size_t Take(char* to, std::size_t room) {
    std::size_t taken = 0;
    while (taken < room && piece_ != end_) {
      const std::size_t size = std::min(room - taken, piece_->iov_len - at_);
      std::memcpy(to + taken, static_cast<const char*>(piece_->iov_base) + at_, size);
      taken += size;
      at_ += size;
      if (at_ < piece_->iov_len) break;
      ++piece_;
      at_ = 0;
    }
    return taken;
  }

  std::size_t left() const {
    std::size_t sum = 0;
    for (const iovec* piece = piece_; piece != end_; ++piece) sum += piece->iov_len;
    return sum - at_;
  }

 private:
  const iovec* piece_;
  const iovec* const end_;
  std::size_t at_ = 0;  // in *piece_
};

}  // namespace

TlsTransport::Handshaken SessionTransport::Handshake() noexcept try {
  std::array<char, kHandshakeRead> received;
  if (!handshaken_ && session_.output().empty()) {
    const Received raw = ReceivePlain(received.data(), received.size());
    if (raw.status == Status::kEnd) {
      return {Progress::kFailed, false, TlsFailure::kClosed, "it has closed the connection"};
    }
    if (raw.status == Status::kBroken) {
      return {Progress::kFailed, false, TlsFailure::kClosed,
              std::generic_category().message(raw.error)};
    }
    session_.Feed({received.data(), raw.bytes});
    const TlsSession::Result result = session_.Handshake();
    if (result == TlsSession::Result::kFailed) {
      Sent last_words;
      Flush(last_words);
      return {Progress::kFailed, false, session_.failure(), session_.words()};
    }
    if (result == TlsSession::Result::kEnd) {
      return {Progress::kFailed, false, TlsFailure::kClosed, "it has ended the handshake"};
    }
    if (result == TlsSession::Result::kDone) {
      handshaken_ = true;
      early_ = session_.input();
      session_.Feed(early_);
      peer_name_ = session_.PeerName();
    }
  }
  Sent sent;
  if (!Flush(sent) && sent.broken) {
    return {Progress::kFailed, false, TlsFailure::kClosed,
            std::generic_category().message(sent.error)};
  }
  const bool waits = !session_.output().empty();
  return {handshaken_ && !waits ? Progress::kDone : Progress::kMore, waits};
} catch (const std::bad_alloc&) {
  return {Progress::kFailed, false, TlsFailure::kClosed, "no memory"};  // short: allocates nothing
}

Transport::Received SessionTransport::Receive(char* to, std::size_t room) noexcept try {
  if (holds_input()) {
    const Received held = Decrypt(to, room);
    if (held.status != Status::kAgain) return held;
  }
  std::array<char, kRead> ciphertext;
  const std::size_t most = std::min(ciphertext.size(), room - TlsSession::kMaxRecord);
  const Received raw = ReceivePlain(ciphertext.data(), most);
  if (raw.status != Status::kSome) return raw;
  session_.Feed({ciphertext.data(), raw.bytes});
  return Decrypt(to, room);
} catch (const std::bad_alloc&) {
  session_.Feed({});
  return {Status::kBroken, 0, ENOMEM};
}

Transport::Received SessionTransport::Decrypt(char* to, std::size_t room) {
  using Result = TlsSession::Result;
  std::size_t bytes = 0;
  while (over_ == Result::kWantsInput) {
    assert(bytes < room);
    std::size_t some = 0;
    const Result result = session_.Read(to + bytes, room - bytes, some);
    bytes += some;
    if (result == Result::kWantsInput) break;
    if (result != Result::kDone) over_ = result;
  }
  session_.Feed({});
  early_ = std::string();

  // Our answers, or why we end.
  if (Sent sent; !Flush(sent) && sent.broken) return {Status::kBroken, 0, sent.error};
  if (session_.output().size() > kMaxUnsent) return {Status::kBroken};

  if (bytes > 0) return {Status::kSome, bytes};
  if (over_ == Result::kEnd) return {Status::kEnd};
  return {over_ == Result::kFailed ? Status::kBroken : Status::kAgain};
}

Transport::Sent SessionTransport::Send(const iovec* pieces, std::size_t count) noexcept try {
  Sent sent;
  if (!Flush(sent)) return sent;
  Run plain(pieces, count);
  std::array<char, TlsSession::kMaxRecord> record;
  if (begun_) sent.bytes += plain.Take(record.data(), 1);
  begun_ = false;

  while (const std::size_t due = std::min(plain.left(), kChunk)) {
    session_.output().reserve(due + TlsSession::kMaxOverhead * (due / record.size() + 1));
    for (std::size_t done = 0; done < due;) {
      const std::size_t size = plain.Take(record.data(), std::min(due - done, record.size()));
      if (!session_.Write(record.data(), size)) {
        sent.broken = true;
        return sent;
      }
      done += size;
    }
    sent.bytes += due;
    if (!Flush(sent)) {
      --sent.bytes;
      begun_ = true;
      return sent;
    }
  }
  return sent;
} catch (const std::bad_alloc&) {
  return {.broken = true, .error = ENOMEM};
}

Transport::Ended SessionTransport::EndSending() noexcept try {
  if (!ending_) session_.End();
  ending_ = true;
  if (Sent sent; !Flush(sent)) return sent.broken ? Ended::kBroken : Ended::kAgain;
  return shutdown(fd(), SHUT_WR) == 0 ? Ended::kDone : Ended::kBroken;
} catch (const std::bad_alloc&) {
  return Ended::kBroken;
}

// False: some is left, or the connection is broken.
bool SessionTransport::Flush(Sent& sent) {
  std::string& output = session_.output();
  if (output.empty()) return true;
  const iovec piece{output.data(), output.size()};
  const Sent raw = SendPlain(&piece, 1);
  sent.broken = raw.broken;
  sent.error = raw.error;
  sent.moved += raw.moved;
  if (raw.moved < output.size()) {
    output.erase(0, raw.moved);
    return false;
  }
  output = std::string();
  return true;
}

}  // namespace evrelay
