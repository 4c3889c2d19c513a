// LoadTls: from files to an OpenSSL context.

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <new>
#include <stdexcept>
#include <system_error>
#include <utility>
#include <vector>

#include "net/tls.h"
#include "net/tls_transport.h"

namespace evrelay {
namespace {

constexpr std::size_t kMaxFile = 4 * kMiB;

template <auto Free>
struct Freer {
  template <class T>
  void operator()(T* object) const {
    Free(object);
  }
};
using Context = std::unique_ptr<SSL_CTX, Freer<&SSL_CTX_free>>;
using Certificate = std::unique_ptr<X509, Freer<&X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Freer<&EVP_PKEY_free>>;
using MemoryBio = std::unique_ptr<BIO, Freer<&BIO_vfree>>;

// A file that a key of the configuration names.
struct PemFile {
  std::string key;
  std::string path;
  std::string text{};

  [[noreturn]] void Fail(const std::string& what) const {
    throw std::runtime_error(key + ": " + path + ": " + what);
  }
};

// Why OpenSSL has failed.
std::string Reason() {
  const char* reason = ERR_reason_error_string(ERR_peek_last_error());
  return reason == nullptr ? "no reason given" : reason;
}

// Waits for no writer of a FIFO.
PemFile Read(std::string key, std::string path) {
  PemFile file{std::move(key), std::move(path)};
  const UniqueFd fd(open(file.path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat info {};
  if (!fd || fstat(fd.get(), &info) != 0) file.Fail(std::generic_category().message(errno));
  if (!S_ISREG(info.st_mode)) file.Fail("not a file; give one in PEM format");
  std::array<char, 16 * 1024> some;
  ssize_t n;
  while ((n = read(fd.get(), some.data(), some.size())) > 0) {
    file.text.append(some.data(), static_cast<std::size_t>(n));
    if (file.text.size() > kMaxFile) file.Fail("more than 4 MiB; give a file in PEM format");
  }
  if (n < 0) file.Fail(std::generic_category().message(errno));
  return file;
}

MemoryBio BioOf(const PemFile& file) {
  MemoryBio bio(BIO_new_mem_buf(file.text.data(), static_cast<int>(file.text.size())));
  if (bio == nullptr) throw std::bad_alloc();
  return bio;
}

// OpenSSL's own would ask on the terminal.
int NoPassphrase(char*, int, int, void* asked) {
  *static_cast<bool*>(asked) = true;
  return -1;
}

// All that are in the file, at least one.
std::vector<Certificate> CertificatesOf(const PemFile& file) {
  const MemoryBio bio = BioOf(file);
  std::vector<Certificate> certificates;
  bool encrypted = false;
  ERR_clear_error();
  while (
      Certificate certificate{PEM_read_bio_X509(bio.get(), nullptr, &NoPassphrase, &encrypted)}) {
    certificates.push_back(std::move(certificate));
  }
  if (encrypted) file.Fail("it has a passphrase; give certificates without");
  if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) {
    file.Fail("certificate " + std::to_string(certificates.size() + 1) + " in it is broken (" +
              Reason() + "); give certificates in PEM format");
  }
  if (certificates.empty()) {
    file.Fail(
        "no certificate in it; give one in PEM format, which begins with "
        "-----BEGIN CERTIFICATE-----");
  }
  return certificates;
}

Key KeyOf(const PemFile& file) {
  bool encrypted = false;
  ERR_clear_error();
  Key key(PEM_read_bio_PrivateKey(BioOf(file).get(), nullptr, &NoPassphrase, &encrypted));
  if (key != nullptr) return key;
  if (encrypted) file.Fail("the key has a passphrase; give it without, readable by evrelay alone");
  file.Fail("no private key in it (" + Reason() +
            "); give one in PEM format, which begins with -----BEGIN PRIVATE KEY-----");
}

std::string TimeOf(const ASN1_TIME* time) {
  const MemoryBio bio(BIO_new(BIO_s_mem()));
  if (bio == nullptr) throw std::bad_alloc();
  ASN1_TIME_print(bio.get(), time);
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &text);
  return {text, static_cast<std::size_t>(size)};
}

std::string WarningOf(const PemFile& file, const X509* certificate) {
  const ASN1_TIME* end = X509_get0_notAfter(certificate);
  if (X509_cmp_current_time(end) < 0) {
    return file.path + ": the certificate has expired: " + TimeOf(end);
  }
  const ASN1_TIME* begin = X509_get0_notBefore(certificate);
  if (X509_cmp_current_time(begin) > 0) {
    return file.path + ": the certificate is not valid before " + TimeOf(begin);
  }
  return {};
}

// The chain and its key; a warning about it.
std::string UseCertificate(SSL_CTX* context, const PemFile& cert, const PemFile& key) {
  std::vector<Certificate> chain = CertificatesOf(cert);
  std::string warning = WarningOf(cert, chain.front().get());
  ERR_clear_error();
  if (SSL_CTX_use_certificate(context, chain.front().get()) != 1) {
    cert.Fail("the certificate cannot be used: " + Reason());
  }
  for (std::size_t i = 1; i < chain.size(); ++i) {
    if (SSL_CTX_add0_chain_cert(context, chain[i].get()) != 1) {
      cert.Fail("certificate " + std::to_string(i + 1) + " in it cannot be used: " + Reason());
    }
    static_cast<void>(chain[i].release());  // the context has it now
  }
  const Key private_key = KeyOf(key);
  if (X509_check_private_key(chain.front().get(), private_key.get()) != 1) {
    key.Fail("not the key of the first certificate in " + cert.path +
             "; give the one that it was made with");
  }
  if (SSL_CTX_use_PrivateKey(context, private_key.get()) != 1) {
    key.Fail("the key cannot be used: " + Reason());
  }
  return warning;
}

// Certificates that they have signed are good; whoever they are, they need not lead to a root.
void Trust(SSL_CTX* context, const PemFile& ca, bool tell) {
  X509_STORE* store = SSL_CTX_get_cert_store(context);
  for (const Certificate& certificate : CertificatesOf(ca)) {
    if (X509_STORE_add_cert(store, certificate.get()) != 1) ca.Fail(Reason());
    if (tell && SSL_CTX_add_client_CA(context, certificate.get()) != 1) ca.Fail(Reason());
  }
  X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
}

// No exception may pass through OpenSSL.
int AcceptIfNamed(int verified, X509_STORE_CTX* store) noexcept try {
  if (verified != 1 || X509_STORE_CTX_get_error_depth(store) != 0 ||
      TlsSession::HasGoodName(X509_STORE_CTX_get_current_cert(store))) {
    return verified;
  }
  X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
  return 0;
} catch (const std::bad_alloc&) {
  X509_STORE_CTX_set_error(store, X509_V_ERR_OUT_OF_MEM);
  return 0;
}

Context NewContext(const SSL_METHOD* method) {
  Context context(SSL_CTX_new(method));
  if (context == nullptr) throw std::runtime_error("OpenSSL does not start: " + Reason());
  SSL_CTX_set_options(context.get(),
                      SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET);
  SSL_CTX_set_num_tickets(context.get(), 0);
  SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(context.get(), SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_clear_mode(context.get(), SSL_MODE_AUTO_RETRY);
  SSL_CTX_set_max_cert_list(context.get(), TlsSession::kMaxChain);
  return context;
}

class LoadedContext final : public TlsContext {
 public:
  LoadedContext(Context context, std::string warning)
      : context_(std::move(context)), warning_(std::move(warning)) {}

  std::unique_ptr<TlsTransport> Accept(UniqueFd fd) const override {
    return std::make_unique<SessionTransport>(std::move(fd), context_.get(),
                                              TlsSession::Side::kServer);
  }

  std::unique_ptr<TlsTransport> Connect(UniqueFd fd, const std::string& server) const override {
    auto transport = std::make_unique<SessionTransport>(std::move(fd), context_.get(),
                                                        TlsSession::Side::kClient);
    if (!transport->Expect(server)) {
      throw std::runtime_error("no certificate can be for the name \"" + server + '"');
    }
    return transport;
  }

  std::string Warning() const override { return warning_; }

 private:
  const Context context_;
  const std::string warning_;
};

}  // namespace

std::shared_ptr<const TlsContext> LoadTls(const TlsConfig& config) {
  Context context = NewContext(TLS_server_method());
  SSL_CTX_set_min_proto_version(context.get(),
                                config.min == TlsVersion::k13 ? TLS1_3_VERSION : TLS1_2_VERSION);
  const PemFile cert = Read("cert", config.cert);
  const PemFile key = Read("key", config.key);
  std::string warning = UseCertificate(context.get(), cert, key);
  if (!config.client_ca.empty()) {
    Trust(context.get(), Read("client_ca", config.client_ca), true);
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                       &AcceptIfNamed);
  }
  return std::make_shared<LoadedContext>(std::move(context), std::move(warning));
}

std::shared_ptr<const TlsContext> LoadTls(const TlsClientConfig& config) {
  Context context = NewContext(TLS_client_method());
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  if (!config.cert.empty()) {
    const PemFile cert = Read("--cert", config.cert);
    const PemFile key = Read("--key", config.key);
    UseCertificate(context.get(), cert, key);
  }
  if (!config.ca.empty()) {
    Trust(context.get(), Read("--ca", config.ca), false);
  } else if (SSL_CTX_set_default_verify_paths(context.get()) != 1) {
    throw std::runtime_error("the system's certificates: " + Reason());
  }
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  return std::make_shared<LoadedContext>(std::move(context), std::string());
}

}  // namespace evrelay
