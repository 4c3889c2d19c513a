#include "hook/log_text.h"

#include <algorithm>
#include <cstddef>

#include "logging/escaped.h"

namespace evrelay {
namespace {

constexpr std::size_t kMaxText = 4096;
constexpr std::string_view kKept = "'\"\\";

}  // namespace

std::string LogText(std::string_view text) {
  while (text.ends_with('\n') || text.ends_with('\r')) text.remove_suffix(1);
  const std::size_t size = text.size();
  text = text.substr(0, kMaxText);
  std::string out;
  while (!text.empty()) {
    const std::size_t plain = std::min(text.find_first_of(kKept), text.size());
    out += Escaped(text.substr(0, plain), plain);
    text.remove_prefix(plain);
    const std::size_t kept = std::min(text.find_first_not_of(kKept), text.size());
    out += text.substr(0, kept);
    text.remove_prefix(kept);
  }
  if (size > kMaxText) out += "... (" + std::to_string(size) + " bytes)";
  return out;
}

}  // namespace evrelay
