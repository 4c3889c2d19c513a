// In place of the other net/tls_*.cc where evrelay is built without OpenSSL.

#include <stdexcept>

#include "net/tls.h"

namespace evrelay {
namespace {

[[noreturn]] void NoTls() {
  throw std::runtime_error("this evrelay was built without TLS; use one that was built with it");
}

}  // namespace

std::shared_ptr<const TlsContext> LoadTls(const TlsConfig&) { NoTls(); }
std::shared_ptr<const TlsContext> LoadTls(const TlsClientConfig&) { NoTls(); }

}  // namespace evrelay
