#include "client/event_format.h"

#include <time.h>

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>

namespace evrelay {

namespace {

// A code point at the front of `bytes`: its length in bytes, 0 if that is not UTF-8.
struct CodePoint {
  std::size_t size = 0;
  std::uint32_t value = 0;
};

CodePoint DecodeUtf8(std::string_view bytes) {
  const auto at = [&bytes](std::size_t i) {
    return static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[i]));
  };
  const std::uint32_t first = at(0);
  if (first < 0x80) return {1, first};

  std::size_t size = 0;
  std::uint32_t smallest = 0;  // below it a shorter form exists
  if ((first & 0xe0) == 0xc0) {
    size = 2, smallest = 0x80;
  } else if ((first & 0xf0) == 0xe0) {
    size = 3, smallest = 0x800;
  } else if ((first & 0xf8) == 0xf0) {
    size = 4, smallest = 0x10000;
  }
  if (size == 0 || bytes.size() < size) return {};

  std::uint32_t value = first & (0x7fU >> size);
  for (std::size_t i = 1; i < size; ++i) {
    if ((at(i) & 0xc0) != 0x80) return {};
    value = value << 6 | (at(i) & 0x3f);
  }
  const bool surrogate = value >= 0xd800 && value <= 0xdfff;
  if (value < smallest || value > 0x10ffff || surrogate) return {};
  return {size, value};
}

bool IsUtf8(std::string_view bytes) {
  while (!bytes.empty()) {
    const std::size_t size = DecodeUtf8(bytes).size;
    if (size == 0) return false;
    bytes.remove_prefix(size);
  }
  return true;
}

// Decimal with leading zeros.
void AppendNumber(std::string& out, std::int64_t value, std::size_t width) {
  const std::string digits = std::to_string(value);
  if (digits.size() < width) out.append(width - digits.size(), '0');
  out += digits;
}

void AppendClock(std::string& out, const tm& time) {
  AppendNumber(out, time.tm_hour, 2);
  out += ':';
  AppendNumber(out, time.tm_min, 2);
  out += ':';
  AppendNumber(out, time.tm_sec, 2);
  out += '.';
}

void AppendHexEscape(std::string& out, char byte) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  const auto value = static_cast<unsigned char>(byte);
  out += "\\x";
  out += kDigits[value >> 4];
  out += kDigits[value & 15];
}

std::string Base64(std::string_view bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    const std::string_view group = bytes.substr(at, 3);
    std::uint32_t bits = 0;
    for (std::size_t i = 0; i < 3; ++i) {
      bits = bits << 8 | (i < group.size() ? static_cast<unsigned char>(group[i]) : 0U);
    }
    for (std::size_t i = 0; i < 4; ++i) {
      out += i <= group.size() ? kDigits[bits >> (18 - 6 * i) & 63] : '=';
    }
  }
  return out;
}

}  // namespace

void AppendEscaped(std::string& out, std::string_view payload) {
  while (!payload.empty()) {
    const auto [size, value] = DecodeUtf8(payload);
    // Past ASCII the control characters go on to U+009F; terminals obey those too.
    const bool control = value < 0x20 || (value >= 0x7f && value < 0xa0);
    if (payload[0] == '\\') {
      out += "\\\\";
    } else if (payload[0] == '\n') {
      out += "\\n";
    } else if (payload[0] == '\r') {
      out += "\\r";
    } else if (payload[0] == '\t') {
      out += "\\t";
    } else if (size != 0 && !control) {
      out += payload.substr(0, size);
    } else {
      for (char byte : payload.substr(0, size == 0 ? 1 : size)) AppendHexEscape(out, byte);
    }
    payload.remove_prefix(size == 0 ? 1 : size);
  }
}

void AppendTerminalLine(std::string& out, WallTime when, std::string_view payload) {
  using std::chrono::milliseconds;
  const auto second = std::chrono::floor<std::chrono::seconds>(when);
  const time_t seconds = std::chrono::system_clock::to_time_t(second);
  tm local{};
  ::localtime_r(&seconds, &local);
  AppendClock(out, local);
  AppendNumber(out, std::chrono::floor<milliseconds>(when - second).count(), 3);
  out += ' ';
  AppendEscaped(out, payload);
  out += '\n';
}

void AppendJsonLine(std::string& out, WallTime when, std::string_view payload) {
  using std::chrono::microseconds;
  const auto second = std::chrono::floor<std::chrono::seconds>(when);
  const time_t seconds = std::chrono::system_clock::to_time_t(second);
  tm utc{};
  ::gmtime_r(&seconds, &utc);
  out += R"({"time":")";
  AppendNumber(out, utc.tm_year + 1900, 4);
  out += '-';
  AppendNumber(out, utc.tm_mon + 1, 2);
  out += '-';
  AppendNumber(out, utc.tm_mday, 2);
  out += 'T';
  AppendClock(out, utc);
  AppendNumber(out, std::chrono::floor<microseconds>(when - second).count(), 6);
  out += R"(Z",)";
  if (IsUtf8(payload)) {
    out += R"("data":)" + nlohmann::json(payload).dump();
  } else {
    out += R"("data_base64":")" + Base64(payload) + '"';
  }
  out += "}\n";
}

}  // namespace evrelay
