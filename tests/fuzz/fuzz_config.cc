// The configuration reader on any bytes: it ends, and each error is one printable line with a
// place.

#include <cstddef>
#include <cstdint>
#include <string>

#include "config/check.h"
#include "config/load_yaml.h"
#include "fuzz/check.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(data, data + size);
  const evrelay::LoadedConfig loaded = evrelay::ParseYaml(text, "f");
  EVRELAY_CHECK(loaded.errors.size() <= 101);
  for (const std::string& error : loaded.errors) {
    EVRELAY_CHECK(error.starts_with("f:"));
    for (const char c : error) EVRELAY_CHECK(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f);
  }
  if (loaded.errors.empty()) {
    const evrelay::Config& config = loaded.config;
    for (const evrelay::ListenConfig& listen : config.bind_addr) {
      EVRELAY_CHECK(evrelay::BindAddressError(listen.addr).empty());
      for (const evrelay::Network& network : listen.allow) {
        EVRELAY_CHECK(network.bits <= (network.ipv6 ? 128 : 32));
      }
      EVRELAY_CHECK(!listen.tls || !(listen.tls->cert.empty() || listen.tls->key.empty()));
    }
    EVRELAY_CHECK(!config.bind_addr.empty());
    EVRELAY_CHECK(config.max_clients >= 1 && config.max_message >= 1 && config.max_event >= 1);
    EVRELAY_CHECK(config.slow_subscriber.max_lag >= 4 * evrelay::kKiB);
    EVRELAY_CHECK(config.producer.mode <= 0777 && config.control.mode <= 0777);
    for (const evrelay::AllowRule& rule : config.producer.allow)
      EVRELAY_CHECK(rule.uid || rule.gid);
  }
  return 0;
}
