// TlsSession: one TLS connection between memory and memory. Ciphertext from the peer goes in by
// Feed, ciphertext for the peer comes out in output(); no descriptor is known here, so nothing ever
// waits to be written.
//
// Memory: a session that is idle holds no buffers of records. The handshake's are bounded: a
// certificate chain has kMaxChain bytes at most. What our answers amount to is for the owner to
// bound, as it sees output(). Where there is none, calls throw std::bad_alloc, and the session is
// of no more use.
// Thread safety: none.

#ifndef EVRELAY_NET_TLS_SESSION_H_
#define EVRELAY_NET_TLS_SESSION_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "metrics/reasons.h"

struct ssl_ctx_st;
struct ssl_st;
struct x509_st;

namespace evrelay {

class TlsSession {
 public:
  static constexpr std::size_t kMaxRecord = 16 * 1024;  // bytes of plaintext in one record
  static constexpr std::size_t kMaxOverhead = 64;       // bytes that a record has more
  static constexpr std::size_t kMaxChain = 32 * 1024;
  static constexpr std::size_t kMaxName = 255;  // bytes of PeerName()

  enum class Side : std::uint8_t { kServer, kClient };
  // Keeps `context`. Throws std::bad_alloc.
  TlsSession(ssl_ctx_st* context, Side side);
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;
  ~TlsSession();

  // A client's: the name or IP address that the server's certificate must have. False: it cannot
  // be one.
  bool Expect(const std::string& server);

  // Records other than data, such as changes of keys, that are taken from the peer in one Feed:
  // each costs much more time than its bytes tell.
  static constexpr int kMaxOthers = 16;

  // Ciphertext from the peer. It must stay where it is until a call says kWantsInput, or is taken
  // away by the next Feed.
  void Feed(std::string_view ciphertext) {
    input_ = ciphertext;
    others_ = 0;
  }
  // What has not been used of it.
  std::string_view input() const { return input_; }

  // Ciphertext for the peer; grows at its end. Its owner takes from it what it has sent.
  std::string& output() { return output_; }

  enum class Result : std::uint8_t {
    kDone,
    kWantsInput,  // all input has been used; go on with more
    kEnd,         // the peer has ended its side
    kFailed,      // for good; failure() and words() say why, output() may have it for the peer
  };
  Result Handshake();

  // kDone: `bytes` of plaintext, at least 1 and at most `room`, have been written to `to`.
  Result Read(char* to, std::size_t room, std::size_t& bytes);

  // At most kMaxRecord bytes of plaintext. False: it has failed.
  bool Write(const char* plain, std::size_t size);

  // Tells the peer that no more will come.
  void End();

  TlsFailure failure() const { return failure_; }
  const std::string& words() const { return words_; }

  // The common name in the peer's certificate, else its first DNS or e-mail alternative name, as
  // UTF-8; empty: none of these, or no certificate.
  std::string PeerName() const;
  // False: PeerName of this certificate would be longer than kMaxName, has a NUL or is no text; or
  // there was no memory to tell.
  static bool HasGoodName(const x509_st* certificate);

 private:
  struct Bio;

  Result After(int result);
  void Fail();

  ssl_st* ssl_;
  std::string_view input_;
  int others_ = 0;  // records other than data since Feed
  std::string output_;
  bool starved_ = false;  // output_ lacks something that there was no memory for
  TlsFailure failure_ = TlsFailure::kProtocol;
  std::string words_;
};

}  // namespace evrelay

#endif  // EVRELAY_NET_TLS_SESSION_H_
