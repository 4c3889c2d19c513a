#include "support/certificates.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>

namespace evrelay {
namespace {

using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;
using File = std::unique_ptr<FILE, decltype(&std::fclose)>;

File Open(const std::string& path) {
  File file(std::fopen(path.c_str(), "w"), &std::fclose);
  REQUIRE(file != nullptr);
  return file;
}

void AddExtension(X509* certificate, int kind, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, certificate, certificate, nullptr, nullptr, 0);
  const std::unique_ptr<X509_EXTENSION, decltype(&X509_EXTENSION_free)> extension(
      X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str()), &X509_EXTENSION_free);
  REQUIRE(extension != nullptr);
  REQUIRE(X509_add_ext(certificate, extension.get(), -1) == 1);
}

// Not yet signed.
Certificate NewCertificate(const Authority::Text& text, EVP_PKEY* key, int serial) {
  Certificate certificate(X509_new(), &X509_free);
  constexpr long kDay = 24 * 60 * 60;
  REQUIRE(X509_set_version(certificate.get(), X509_VERSION_3) == 1);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), serial);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), text.from_day * kDay);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), text.until_day * kDay);
  REQUIRE(X509_set_pubkey(certificate.get(), key) == 1);
  if (!text.common_name.empty()) {
    // Without regard to the limit of 64 characters, which only some keep to.
    const std::unique_ptr<ASN1_STRING, decltype(&ASN1_STRING_free)> name(
        ASN1_STRING_type_new(V_ASN1_UTF8STRING), &ASN1_STRING_free);
    REQUIRE(ASN1_STRING_set(name.get(), text.common_name.data(),
                            static_cast<int>(text.common_name.size())) == 1);
    const std::unique_ptr<X509_NAME_ENTRY, decltype(&X509_NAME_ENTRY_free)> entry(
        X509_NAME_ENTRY_new(), &X509_NAME_ENTRY_free);
    REQUIRE(X509_NAME_ENTRY_set_object(entry.get(), OBJ_nid2obj(NID_commonName)) == 1);
    REQUIRE(X509_NAME_ENTRY_set_data(entry.get(), V_ASN1_UTF8STRING,
                                     ASN1_STRING_get0_data(name.get()),
                                     ASN1_STRING_length(name.get())) == 1);
    REQUIRE(X509_NAME_add_entry(X509_get_subject_name(certificate.get()), entry.get(), -1, 0) == 1);
  }
  if (!text.alternative_names.empty()) {
    AddExtension(certificate.get(), NID_subject_alt_name, text.alternative_names);
  }
  return certificate;
}

}  // namespace

Authority::Authority(const std::string& name) : key_(EVP_EC_gen("P-256")) {
  REQUIRE(key_ != nullptr);
  certificate_ = NewCertificate({name, {}, -30, 30}, key_, serial_).release();
  AddExtension(certificate_, NID_basic_constraints, "critical,CA:TRUE");
  REQUIRE(X509_set_issuer_name(certificate_, X509_get_subject_name(certificate_)) == 1);
  REQUIRE(X509_sign(certificate_, key_, EVP_sha256()) > 0);
  cert_ = Path("ca.pem");
  PEM_write_X509(Open(cert_).get(), certificate_);
}

Authority::~Authority() {
  X509_free(certificate_);
  EVP_PKEY_free(key_);
}

Authority::Files Authority::Sign(const Text& text) {
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(EVP_EC_gen("P-256"),
                                                                &EVP_PKEY_free);
  REQUIRE(key != nullptr);
  const Certificate certificate = NewCertificate(text, key.get(), ++serial_);
  REQUIRE(X509_set_issuer_name(certificate.get(), X509_get_subject_name(certificate_)) == 1);
  REQUIRE(X509_sign(certificate.get(), key_, EVP_sha256()) > 0);
  const std::string name = Path(std::to_string(serial_));
  PEM_write_X509(Open(name + ".pem").get(), certificate.get());
  PEM_write_PrivateKey(Open(name + "-key.pem").get(), key.get(), nullptr, nullptr, 0, nullptr,
                       nullptr);
  return {name + ".pem", name + "-key.pem"};
}

TlsConfig Authority::Listener(TlsVersion min) {
  const Files own = Server();
  return {own.cert, own.key, {}, min};
}

TlsConfig Authority::MutualListener() {
  TlsConfig config = Listener();
  config.client_ca = cert_;
  return config;
}

std::string Authority::Write(const std::string& name, const std::string& text) const {
  const std::string path = Path(name);
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace evrelay
