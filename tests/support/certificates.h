// An authority of a test, and the certificates that it signs, as PEM files in a directory of their
// own. Made anew by every test program that needs them: EC keys take no time.

#ifndef EVRELAY_TESTS_SUPPORT_CERTIFICATES_H_
#define EVRELAY_TESTS_SUPPORT_CERTIFICATES_H_

#include <string>
#include <vector>

#include "config/config.h"
#include "support/temporary_directory.h"

struct evp_pkey_st;
struct x509_st;

namespace evrelay {

class Authority {
 public:
  explicit Authority(const std::string& name = "test authority");
  Authority(const Authority&) = delete;
  Authority& operator=(const Authority&) = delete;
  ~Authority();

  // What a certificate says.
  struct Text {
    std::string common_name;
    std::string alternative_names{};  // as in "DNS:localhost,IP:127.0.0.1,email:a@b"
    int from_day = -1;                // from today on
    int until_day = 1;
  };
  struct Files {
    std::string cert;  // paths
    std::string key;
  };
  Files Sign(const Text& text);
  // For localhost and 127.0.0.1.
  Files Server() { return Sign({"relay", "DNS:localhost,IP:127.0.0.1"}); }

  const std::string& cert() const { return cert_; }  // the authority's own; a path
  TlsConfig Listener(TlsVersion min = TlsVersion::k12);
  // One that asks for certificates of this authority.
  TlsConfig MutualListener();

  // A path for a file of the test's own.
  std::string Path(const std::string& name) const { return directory_ / name; }
  std::string Write(const std::string& name, const std::string& text) const;

 private:
  TemporaryDirectory directory_;
  evp_pkey_st* key_;
  x509_st* certificate_;
  std::string cert_;
  int serial_ = 1;
};

std::string ReadFile(const std::string& path);

}  // namespace evrelay

#endif  // EVRELAY_TESTS_SUPPORT_CERTIFICATES_H_
