#include "logging/escaped.h"

#include <cstdint>

namespace evrelay {
namespace {

void AppendHex(std::string& out, char c) {
  constexpr char kDigits[] = "0123456789abcdef";
  const auto byte = static_cast<unsigned char>(c);
  out += "\\x";
  out += kDigits[byte >> 4];
  out += kDigits[byte & 15];
}

// One character at the front of a text; length 0: the first byte begins no valid UTF-8.
struct Character {
  std::size_t length;
  char32_t code;
};

Character Decode(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  if (lead < 0x80) return {1, lead};
  Character c{};
  char32_t smallest;  // a longer encoding than needed is not valid
  if ((lead & 0xe0) == 0xc0) {
    c = {2, lead & 0x1fu};
    smallest = 0x80;
  } else if ((lead & 0xf0) == 0xe0) {
    c = {3, lead & 0x0fu};
    smallest = 0x800;
  } else if ((lead & 0xf8) == 0xf0) {
    c = {4, lead & 0x07u};
    smallest = 0x10000;
  } else {
    return {0, 0};
  }
  if (text.size() < c.length) return {0, 0};
  for (std::size_t i = 1; i < c.length; ++i) {
    const auto next = static_cast<unsigned char>(text[i]);
    if ((next & 0xc0) != 0x80) return {0, 0};
    c.code = c.code << 6 | (next & 0x3fu);
  }
  const bool surrogate = c.code >= 0xd800 && c.code <= 0xdfff;
  if (c.code < smallest || c.code > 0x10ffff || surrogate) return {0, 0};
  return c;
}

bool IsPlain(char32_t c) {
  if (c < 0x80) return c >= ' ' && c != 0x7f && c != '"' && c != '\'' && c != '\\';
  if (c < 0xa0) return false;                    // terminals obey these as control sequences
  if (c >= 0x2028 && c <= 0x202e) return false;  // line and paragraph ends, reordering
  if (c >= 0x2066 && c <= 0x2069) return false;  // reordering
  return c != 0x200e && c != 0x200f && c != 0x61c;
}

}  // namespace

std::string Escaped(std::string_view bytes, std::size_t max) {
  std::string out;
  std::size_t at = 0;
  while (at < bytes.size() && at < max) {
    const Character c = Decode(bytes.substr(at));
    const std::size_t length = c.length == 0 ? 1 : c.length;
    if (at + length > max) break;
    const std::string_view taken = bytes.substr(at, length);
    if (c.length != 0 && IsPlain(c.code)) {
      out += taken;
    } else {
      for (const char byte : taken) AppendHex(out, byte);
    }
    at += length;
  }
  if (at < bytes.size()) out += "... (" + std::to_string(bytes.size()) + " bytes)";
  return out;
}

std::string OneLine(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (IsControl(c)) {
      AppendHex(out, c);
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace evrelay
