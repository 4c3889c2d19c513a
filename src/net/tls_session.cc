#include "net/tls_session.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <optional>

namespace evrelay {
namespace {

// Nothing in it that may not be in a C string. None: it is no text, or there is no memory for it.
std::optional<std::string> Text(const ASN1_STRING* string) {
  unsigned char* utf8 = nullptr;
  const int size = ASN1_STRING_to_UTF8(&utf8, string);
  if (size < 0) return std::nullopt;
  const auto free = [](unsigned char* bytes) { OPENSSL_free(bytes); };
  const std::unique_ptr<unsigned char, decltype(free)> owned(utf8, free);
  std::string text(reinterpret_cast<const char*>(utf8), static_cast<std::size_t>(size));
  if (text.size() > TlsSession::kMaxName || text.find('\0') != text.npos) return std::nullopt;
  return text;
}

// Empty: it has none. None: it has one that is of no use, or there is no memory for it.
std::optional<std::string> NameOf(const X509* certificate) {
  const X509_NAME* subject = X509_get_subject_name(certificate);
  const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (at >= 0) {
    std::optional<std::string> name =
        Text(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
    if (!name || !name->empty()) return name;
  }
  int critical = 0;
  const std::unique_ptr<GENERAL_NAMES, decltype(&GENERAL_NAMES_free)> names(
      static_cast<GENERAL_NAMES*>(
          X509_get_ext_d2i(certificate, NID_subject_alt_name, &critical, nullptr)),
      &GENERAL_NAMES_free);
  const bool absent = critical == -1;
  if (names == nullptr && !absent) return std::nullopt;
  for (int i = 0; i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type == GEN_DNS || name->type == GEN_EMAIL) return Text(name->d.ia5);
  }
  return "";
}

// What a certificate that has not been accepted is called.
TlsFailure FailureOf(long verified) {
  switch (verified) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return TlsFailure::kExpired;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:  // an issuer of the same name, but not the same
      return TlsFailure::kUnknownCa;
    case X509_V_ERR_OUT_OF_MEM:  // it says nothing of the certificate
      return TlsFailure::kClosed;
    default:
      return TlsFailure::kBadCertificate;
  }
}

TlsFailure FailureOf(unsigned long error) {
  if (ERR_GET_LIB(error) != ERR_LIB_SSL) return TlsFailure::kProtocol;
  const int reason = ERR_GET_REASON(error);
  // An alert, in which the peer says why it leaves.
  if (reason >= SSL_AD_REASON_OFFSET && reason <= SSL_AD_REASON_OFFSET + UINT8_MAX) {
    return TlsFailure::kClosed;
  }
  switch (reason) {
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW:
    case SSL_R_NO_PROTOCOLS_AVAILABLE:
      return TlsFailure::kVersion;
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
      return TlsFailure::kNoCertificate;
    default:
      return TlsFailure::kProtocol;
  }
}

}  // namespace

// What OpenSSL takes for a connection.
struct TlsSession::Bio {
  static TlsSession& SessionOf(BIO* bio) { return *static_cast<TlsSession*>(BIO_get_data(bio)); }

  // No exception may pass through OpenSSL.
  static int Write(BIO* bio, const char* bytes, int size) noexcept try {
    SessionOf(bio).output_.append(bytes, static_cast<std::size_t>(size));
    return size;
  } catch (const std::bad_alloc&) {
    SessionOf(bio).starved_ = true;
    return -1;
  }

  static int Read(BIO* bio, char* to, int room) noexcept {
    std::string_view& input = SessionOf(bio).input_;
    BIO_clear_retry_flags(bio);
    if (input.empty()) {
      BIO_set_retry_read(bio);
      return -1;
    }
    const std::size_t size = std::min(input.size(), static_cast<std::size_t>(room));
    std::memcpy(to, input.data(), size);
    input.remove_prefix(size);
    return static_cast<int>(size);
  }

  static long Control(BIO*, int command, long, void*) noexcept {
    return command == BIO_CTRL_FLUSH ? 1 : 0;
  }

  static const BIO_METHOD* Method() {
    static const std::unique_ptr<BIO_METHOD, decltype(&BIO_meth_free)> method = [] {
      BIO_METHOD* made = BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_get_new_index(), "session");
      if (made == nullptr) throw std::bad_alloc();
      BIO_meth_set_write(made, &Write);
      BIO_meth_set_read(made, &Read);
      BIO_meth_set_ctrl(made, &Control);
      return std::unique_ptr<BIO_METHOD, decltype(&BIO_meth_free)>(made, &BIO_meth_free);
    }();
    return method.get();
  }
};

TlsSession::TlsSession(ssl_ctx_st* context, Side side) {
  BIO* bio = BIO_new(Bio::Method());
  ssl_ = bio == nullptr ? nullptr : SSL_new(context);
  if (ssl_ == nullptr) {
    BIO_free(bio);
    throw std::bad_alloc();
  }
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_, bio, bio);
  if (side == Side::kServer) {
    SSL_set_accept_state(ssl_);
  } else {
    SSL_set_connect_state(ssl_);
  }
}

TlsSession::~TlsSession() { SSL_free(ssl_); }

bool TlsSession::Expect(const std::string& server) {
  X509_VERIFY_PARAM* param = SSL_get0_param(ssl_);
  if (X509_VERIFY_PARAM_set1_ip_asc(param, server.c_str()) == 1) return true;
  X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  return X509_VERIFY_PARAM_set1_host(param, server.c_str(), server.size()) == 1 &&
         SSL_set_tlsext_host_name(ssl_, server.c_str()) == 1;
}

TlsSession::Result TlsSession::Handshake() {
  ERR_clear_error();
  return After(SSL_do_handshake(ssl_));
}

TlsSession::Result TlsSession::Read(char* to, std::size_t room, std::size_t& bytes) {
  while (true) {
    const std::size_t before = input_.size();
    ERR_clear_error();
    const Result result = After(SSL_read_ex(ssl_, to, room, &bytes));
    // Without SSL_MODE_AUTO_RETRY it also says so after every record that is not data, and again
    // after it has answered.
    if (result != Result::kWantsInput || input_.empty()) return result;
    if (input_.size() < before && ++others_ > kMaxOthers) {
      words_ = "too many records without data";
      return Result::kFailed;
    }
  }
}

bool TlsSession::Write(const char* plain, std::size_t size) {
  ERR_clear_error();
  std::size_t written;
  return After(SSL_write_ex(ssl_, plain, size, &written)) == Result::kDone;
}

void TlsSession::End() {
  ERR_clear_error();
  SSL_shutdown(ssl_);
  if (starved_) throw std::bad_alloc();
}

TlsSession::Result TlsSession::After(int result) {
  if (starved_) throw std::bad_alloc();
  if (result > 0) return Result::kDone;
  switch (SSL_get_error(ssl_, result)) {
    case SSL_ERROR_WANT_READ:
      return Result::kWantsInput;
    case SSL_ERROR_ZERO_RETURN:
      return Result::kEnd;
    default:
      Fail();
      return Result::kFailed;
  }
}

void TlsSession::Fail() {
  const unsigned long error = ERR_peek_last_error();  // those before it say what led to it
  if (ERR_GET_REASON(error) == ERR_R_MALLOC_FAILURE) throw std::bad_alloc();
  const long verified = SSL_get_verify_result(ssl_);
  const char* reason = ERR_reason_error_string(error);
  words_ = reason == nullptr ? "it has failed before" : reason;
  if (verified != X509_V_OK && ERR_GET_REASON(error) == SSL_R_CERTIFICATE_VERIFY_FAILED) {
    failure_ = FailureOf(verified);
    words_ += std::string(": ") + X509_verify_cert_error_string(verified);
  } else {
    failure_ = FailureOf(error);
  }
}

std::string TlsSession::PeerName() const {
  const X509* certificate = SSL_get0_peer_certificate(ssl_);
  if (certificate == nullptr) return "";
  std::optional<std::string> name = NameOf(certificate);
  // A server's peer has HasGoodName. It must not pass for one without a certificate.
  if (!name && SSL_is_server(ssl_) == 1) throw std::bad_alloc();
  return std::move(name).value_or("");
}

bool TlsSession::HasGoodName(const x509_st* certificate) { return NameOf(certificate).has_value(); }

}  // namespace evrelay
