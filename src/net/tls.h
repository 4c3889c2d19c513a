// TLS as the rest of the relay sees it; which library does it is the business of net/tls_*. Built
// without one, there is no context to be had, so no TLS connection either.
//
// Thread safety: a TlsContext may be used by any thread; a TlsTransport has none.

#ifndef EVRELAY_NET_TLS_H_
#define EVRELAY_NET_TLS_H_

#include <cstdint>
#include <memory>
#include <string>

#include "config/config.h"
#include "metrics/reasons.h"
#include "net/transport.h"
#include "util/unique_fd.h"

namespace evrelay {

// A connection that carries data once its handshake is done; nothing else may be called before.
class TlsTransport : public Transport {
 public:
  using Transport::Transport;

  enum class Progress : std::uint8_t {
    kMore,  // call it again when the socket is readable, or writable if it waits_to_send
    kDone,
    kFailed,
  };
  struct Handshaken {
    Progress progress;
    bool waits_to_send = false;
    TlsFailure failure = TlsFailure::kProtocol;
    std::string words{};  // kFailed: what went wrong, for a person to read
  };
  // Goes on with the handshake as far as it goes without waiting. Reads at most once.
  virtual Handshaken Handshake() noexcept = 0;
};

// Certificates and rules, read from their files once; connections that it has made keep it.
class TlsContext {
 public:
  TlsContext() = default;
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;
  virtual ~TlsContext() = default;

  // The relay's side of a connection. `fd` is non-blocking.
  virtual std::unique_ptr<TlsTransport> Accept(UniqueFd fd) const = 0;
  // The other side: `server`, a name or an IP address, must be in the relay's certificate.
  virtual std::unique_ptr<TlsTransport> Connect(UniqueFd fd, const std::string& server) const = 0;

  // Empty, or what peers will not like about the certificate.
  virtual std::string Warning() const = 0;
};

// For a listener. Throws std::runtime_error that names the key, the file, what is wrong and what
// would be right: "cert: /etc/evrelay/cert.pem: ...".
std::shared_ptr<const TlsContext> LoadTls(const TlsConfig& config);

// For a subscriber.
struct TlsClientConfig {
  std::string ca;    // who signs relays' certificates; empty: whom the system trusts
  std::string cert;  // what it shows if it is asked; empty: nothing
  std::string key;
};
std::shared_ptr<const TlsContext> LoadTls(const TlsClientConfig& config);

}  // namespace evrelay

#endif  // EVRELAY_NET_TLS_H_
