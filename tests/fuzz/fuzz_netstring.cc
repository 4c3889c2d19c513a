// Decode and DecodeList on any bytes. The input is what stood in a buffer.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "evrelay/netstring.h"
#include "fuzz/check.h"

namespace {

using namespace evrelay::netstring;

constexpr Limits kLimits{.data = 4096, .list = 8192};

void CheckFrame(std::string_view input, const Decoded& decoded) {
  EVRELAY_CHECK(decoded.consumed <= input.size());
  EVRELAY_CHECK(Inside(decoded.payload, input));
  EVRELAY_CHECK(static_cast<std::int64_t>(decoded.payload.size()) <= kLimits.largest());

  const std::string again = Encode(decoded.payload, decoded.type);
  EVRELAY_CHECK(decoded.consumed >= again.size());
  const bool same = input.substr(decoded.consumed - again.size(), again.size()) == again;
  EVRELAY_CHECK(!decoded.canonical || same);
  const Decoded second = Decode(again, kLimits);
  EVRELAY_CHECK(second.status == Status::kFrame && second.canonical);
  EVRELAY_CHECK(second.payload == decoded.payload && second.type == decoded.type);

  // Less than the frame is not enough, and the decoder knows how much is.
  std::size_t begin = 0;
  while (IsSpace(input[begin])) ++begin;
  for (std::size_t length = 0; length < std::min<std::size_t>(decoded.consumed, 64); ++length) {
    const Decoded part = Decode(input.substr(0, length), kLimits);
    EVRELAY_CHECK(part.status == Status::kMore);
    EVRELAY_CHECK(part.need == 0 || part.need == decoded.consumed - begin);
  }
}

void CheckMore(std::string_view input, const Decoded& decoded) {
  EVRELAY_CHECK(decoded.consumed <= input.size());
  const std::size_t kept = input.size() - decoded.consumed;
  if (decoded.need == 0) {
    EVRELAY_CHECK(kept <= kMaxSizeDigits);
  } else {
    EVRELAY_CHECK(decoded.need > kept);
    EVRELAY_CHECK(decoded.need <= static_cast<std::size_t>(kLimits.largest()) + kMaxSizeDigits + 2);
  }
}

void CheckError(std::string_view input, const Decoded& decoded) {
  EVRELAY_CHECK(decoded.error != Error::kNone && decoded.error != Error::kTruncated);
  EVRELAY_CHECK(decoded.consumed < input.size());
  // Nothing that comes later makes it good.
  for (const std::string_view more : {":", ",", "]", "0", "x"}) {
    const Decoded later = Decode(std::string(input).append(more), kLimits);
    EVRELAY_CHECK(later.status == Status::kError && later.error == decoded.error);
  }
}

void CheckList(std::string_view payload) {
  std::vector<std::string_view> items;
  const bool good = DecodeList(payload, items);
  std::string again;
  std::size_t payload_bytes = 0;
  for (const std::string_view item : items) {
    EVRELAY_CHECK(Inside(item, payload));
    payload_bytes += item.size();
    Append(again, item);
  }
  EVRELAY_CHECK(payload_bytes <= payload.size());
  EVRELAY_CHECK(again.size() <= payload.size());
  std::vector<std::string_view> second;
  EVRELAY_CHECK(DecodeList(again, second) && second == items);
  if (good) {
    // Only leading zeros can be lost.
    EVRELAY_CHECK(again.size() == payload.size() ? again == payload
                                                 : again.size() < payload.size());
  } else {
    EVRELAY_CHECK(again != payload);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const Decoded decoded = Decode(input, kLimits);
  switch (decoded.status) {
    case Status::kFrame:
      CheckFrame(input, decoded);
      break;
    case Status::kMore:
      CheckMore(input, decoded);
      break;
    case Status::kError:
      CheckError(input, decoded);
      break;
  }
  CheckList(input);
  return 0;
}
