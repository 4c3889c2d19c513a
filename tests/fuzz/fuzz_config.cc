// The configuration reader on any bytes: it ends, and each error is one printable line with a
// place.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "config/check.h"
#include "config/load_yaml.h"

namespace {

void Require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(data, data + size);
  const evrelay::LoadedConfig loaded = evrelay::ParseYaml(text, "f");
  Require(loaded.errors.size() <= 101);
  for (const std::string& error : loaded.errors) {
    Require(error.starts_with("f:"));
    for (const char c : error) Require(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f);
  }
  if (loaded.errors.empty()) {
    const evrelay::Config& config = loaded.config;
    for (const std::string& address : config.bind_addr) {
      Require(evrelay::BindAddressError(address).empty());
    }
    Require(!config.bind_addr.empty());
    Require(config.max_clients >= 1 && config.max_message >= 1 && config.max_event >= 1);
    Require(config.slow_subscriber.max_lag >= 4 * evrelay::kKiB);
    Require(config.producer.mode <= 0777 && config.control.mode <= 0777);
    for (const evrelay::AllowRule& rule : config.producer.allow) Require(rule.uid || rule.gid);
  }
  return 0;
}
