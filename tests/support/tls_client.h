// A TLS client for tests: what it receives is given to it, and what it has to say is taken from it,
// byte by byte if need be. How it differs from a good client is up to the test.

#ifndef EVRELAY_TESTS_SUPPORT_TLS_CLIENT_H_
#define EVRELAY_TESTS_SUPPORT_TLS_CLIENT_H_

#include <openssl/ssl.h>

#include <algorithm>
#include <array>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "net/tls_session.h"
#include "support/catch.h"
#include "support/certificates.h"

namespace evrelay {

using SslContext = std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)>;

// Trusts everybody, as the tests of a server need not check it.
inline SslContext ClientContext(const Authority::Files& own = {}) {
  SslContext context(SSL_CTX_new(TLS_client_method()), &SSL_CTX_free);
  REQUIRE(context != nullptr);
  SSL_CTX_clear_mode(context.get(), SSL_MODE_AUTO_RETRY);
  if (!own.cert.empty()) {
    REQUIRE(SSL_CTX_use_certificate_chain_file(context.get(), own.cert.c_str()) == 1);
    REQUIRE(SSL_CTX_use_PrivateKey_file(context.get(), own.key.c_str(), SSL_FILETYPE_PEM) == 1);
  }
  return context;
}

class TlsClient {
 public:
  explicit TlsClient(SSL_CTX* context) : session(context, TlsSession::Side::kClient) {}

  // What it has to say now.
  std::string Say() { return std::exchange(session.output(), {}); }

  // The next part of what the server says; no part may stand for all that comes.
  void Hear(std::string_view ciphertext) {
    session.Feed(ciphertext);
    if (!shaken) {
      const TlsSession::Result result = session.Handshake();
      shaken = result == TlsSession::Result::kDone;
      failed = result == TlsSession::Result::kFailed;
    }
    std::array<char, 4096> some;
    while (shaken && !ended && !failed) {
      std::size_t bytes = 0;
      const TlsSession::Result result = session.Read(some.data(), some.size(), bytes);
      if (result == TlsSession::Result::kWantsInput) break;
      ended = result == TlsSession::Result::kEnd;
      failed = result == TlsSession::Result::kFailed;
      heard.append(some.data(), bytes);
    }
  }

  void Write(std::string_view plain) {
    while (!plain.empty()) {
      const std::size_t size = std::min(plain.size(), TlsSession::kMaxRecord);
      REQUIRE(session.Write(plain.data(), size));
      plain.remove_prefix(size);
    }
  }

  TlsSession session;
  std::string heard;    // plaintext
  bool shaken = false;  // its handshake is done
  bool ended = false;   // the server has said that no more comes
  bool failed = false;
};

}  // namespace evrelay

#endif  // EVRELAY_TESTS_SUPPORT_TLS_CLIENT_H_
