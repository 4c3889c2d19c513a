// Typed netstrings: SIZE ":" PAYLOAD TYPE, where SIZE is the decimal byte count of PAYLOAD and TYPE
// is one byte, "," for data (the plain netstring, https://cr.yp.to/proto/netstrings.txt) or "]" for
// a list, whose payload is a sequence of plain netstrings (as in https://tnetstrings.info).
//
// Bytes in, frames out: no I/O, no allocation while decoding, no state between calls. A caller that
// has read half a frame keeps the bytes and calls again with more; `need` says how many frames'
// worth of bytes it must hold at least, so that no buffer grows before the length has been
// accepted.
//
// Thread safety: free functions without shared state; any thread.

#ifndef EVRELAY_NETSTRING_H_
#define EVRELAY_NETSTRING_H_

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace evrelay::netstring {

enum class Type : char {
  kData = ',',
  kList = ']',
};

// What is wrong with a frame. The names (see Name) are the ones in log, metric and manual.
enum class Error : std::uint8_t {
  kNone,
  kBadSize,    // no digits, a sign, a letter, white space before the colon, past 32 bits or digits
  kTooBig,     // SIZE over the limit; known as soon as SIZE is read
  kBadType,    // the byte after PAYLOAD is none of the accepted types
  kBadList,    // the payload of a list is not a sequence of plain netstrings
  kTruncated,  // the stream ended inside a frame
};

inline constexpr std::string_view Name(Error error) {
  switch (error) {
    case Error::kNone:
      return "none";
    case Error::kBadSize:
      return "bad-size";
    case Error::kTooBig:
      return "too-big";
    case Error::kBadType:
      return "bad-type";
    case Error::kBadList:
      return "bad-list";
    case Error::kTruncated:
      return "truncated";
  }
  return "none";
}

// The most digits a SIZE may have, leading zeros included.
inline constexpr std::size_t kMaxSizeDigits = 32;

// Largest header and trailer the encoder writes: ten digits, the colon, the type byte.
inline constexpr std::size_t kMaxOverhead = 12;

// Bytes of PAYLOAD that are accepted, by type. kNotAccepted: that type is an error here.
struct Limits {
  static constexpr std::int64_t kNotAccepted = -1;
  std::int64_t data = 0;
  std::int64_t list = kNotAccepted;

  constexpr std::int64_t largest() const { return data > list ? data : list; }
};

enum class Status : std::uint8_t {
  kFrame,  // `payload` and `type` are set; the frame ends at input + `consumed`
  kMore,   // no whole frame yet; the input from `consumed` on must be kept
  kError,  // `error` is set; the frame begins at input + `consumed`
};

struct Decoded {
  Status status = Status::kMore;
  Error error = Error::kNone;
  Type type = Type::kData;
  // SIZE had no leading zero: the bytes [consumed - frame size, consumed) are what Append would
  // write for `payload`.
  bool canonical = false;
  // kFrame: bytes up to and including the frame. kMore, kError: the white space before it.
  std::size_t consumed = 0;
  // kMore: size of the whole frame once SIZE is known, else 0.
  std::size_t need = 0;
  std::string_view payload;
};

// ASCII white space is skipped between frames, never inside one.
inline constexpr bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

// Decodes the first frame of `input`. The payload is a view into `input`.
inline Decoded Decode(std::string_view input, const Limits& limits) noexcept {
  Decoded out;
  std::size_t at = 0;
  while (at < input.size() && IsSpace(input[at])) ++at;
  out.consumed = at;
  const std::size_t begin = at;

  const auto fail = [&out](Error error) {
    out.status = Status::kError;
    out.error = error;
    return out;
  };

  std::uint64_t size = 0;
  while (at < input.size() && input[at] >= '0' && input[at] <= '9') {
    if (at - begin == kMaxSizeDigits) return fail(Error::kBadSize);
    size = size * 10 + static_cast<std::uint64_t>(input[at] - '0');
    if (size > UINT32_MAX) return fail(Error::kBadSize);
    ++at;
  }
  if (at == input.size()) return out;
  if (at == begin || input[at] != ':') return fail(Error::kBadSize);
  if (static_cast<std::int64_t>(size) > limits.largest()) return fail(Error::kTooBig);
  const std::size_t digits = at - begin;
  ++at;

  if (input.size() - at < size + 1) {
    out.need = digits + 1 + size + 1;
    return out;
  }
  const char type = input[at + size];
  std::int64_t limit = Limits::kNotAccepted;
  if (type == static_cast<char>(Type::kData)) {
    limit = limits.data;
  } else if (type == static_cast<char>(Type::kList)) {
    limit = limits.list;
  }
  if (limit == Limits::kNotAccepted) return fail(Error::kBadType);
  if (static_cast<std::int64_t>(size) > limit) return fail(Error::kTooBig);

  out.status = Status::kFrame;
  out.type = static_cast<Type>(type);
  out.canonical = digits == 1 || input[begin] != '0';
  out.payload = input.substr(at, size);
  out.consumed = at + size + 1;
  return out;
}

// Appends the frame for `payload`, which is no part of it, to `out`. SIZE is written without
// leading zeros. When there is no memory for it, `out` is as it was.
inline void Append(std::string& out, std::string_view payload, Type type = Type::kData) {
  char head[24];  // the digits of any size_t, and the colon
  char* end = std::to_chars(head, head + sizeof head - 1, payload.size()).ptr;
  *end++ = ':';
  const std::size_t size = static_cast<std::size_t>(end - head) + payload.size() + 1;
  if (out.capacity() - out.size() < size) {
    out.reserve(std::max(out.size() + size, 2 * out.capacity()));
  }
  out.append(head, static_cast<std::size_t>(end - head));
  out.append(payload);
  out.push_back(static_cast<char>(type));
}

inline std::string Encode(std::string_view payload, Type type = Type::kData) {
  std::string out;
  out.reserve(payload.size() + kMaxOverhead);
  Append(out, payload, type);
  return out;
}

// Splits the payload of a list frame into views of its items. False (kBadList): it is not a
// sequence of whole plain netstrings; `items` then holds those before the fault.
inline bool DecodeList(std::string_view payload, std::vector<std::string_view>& items) {
  items.clear();
  Limits limits;
  limits.data = UINT32_MAX;
  while (!payload.empty()) {
    if (IsSpace(payload.front())) return false;
    const Decoded item = Decode(payload, limits);
    if (item.status != Status::kFrame) return false;
    items.push_back(item.payload);
    payload.remove_prefix(item.consumed);
  }
  return true;
}

// The list frame of `items`, for example EncodeList({"relay", "hello"}).
template <class Range = std::initializer_list<std::string_view>>
inline std::string EncodeList(const Range& items) {
  std::string payload;
  for (std::string_view item : items) Append(payload, item);
  return Encode(payload, Type::kList);
}

}  // namespace evrelay::netstring

#endif  // EVRELAY_NETSTRING_H_
