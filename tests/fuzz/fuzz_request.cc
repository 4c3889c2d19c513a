// RequestParser on any payload of a list frame, and the answers that go back.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "codec/request.h"
#include "evrelay/netstring.h"
#include "fuzz/check.h"

namespace {

using evrelay::ErrorCode;
using evrelay::Request;
using evrelay::RequestParser;
using evrelay::Verb;
using namespace evrelay::netstring;

constexpr std::size_t kMaxEvent = 512;

// A list frame, read back into its items.
std::vector<std::string> Items(std::string_view frame) {
  const Decoded decoded = Decode(frame, Limits{.data = Limits::kNotAccepted, .list = 1 << 20});
  EVRELAY_CHECK(decoded.status == Status::kFrame && decoded.consumed == frame.size());
  std::vector<std::string_view> items;
  EVRELAY_CHECK(DecodeList(decoded.payload, items));
  return {items.begin(), items.end()};
}

void CheckGood(std::string_view payload, const Request& request,
               const std::vector<std::string_view>& items) {
  EVRELAY_CHECK(request.error_text.empty());
  EVRELAY_CHECK(items.at(0) == evrelay::kVerbNames.at(static_cast<std::size_t>(request.verb)));
  if (request.verb == Verb::kRelay) {
    EVRELAY_CHECK(items.size() == 2 && request.evdata == items[1]);
    EVRELAY_CHECK(!request.evdata.empty() && request.evdata.size() <= kMaxEvent);
    EVRELAY_CHECK(Inside(request.evdata, payload));
  } else {
    EVRELAY_CHECK(items.size() == 1);
  }
}

void CheckBad(const Request& request) {
  EVRELAY_CHECK(!request.error_text.empty() && request.error_text.size() < 200);
  std::string answer;
  AppendError(answer, request.error, request.error_text);
  const std::vector<std::string> items = Items(answer);
  EVRELAY_CHECK(items.size() == 3 && items[0] == "error" && items[1] == Name(request.error) &&
                items[2] == request.error_text);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view payload(reinterpret_cast<const char*>(data), size);
  RequestParser parser;
  const Request request = parser.Parse(payload, kMaxEvent);

  std::vector<std::string_view> items;
  const bool list = DecodeList(payload, items);
  EVRELAY_CHECK(list == (request.error != ErrorCode::kBadList));
  if (request.ok()) {
    CheckGood(payload, request, items);
  } else {
    CheckBad(request);
  }

  // What came before leaves no trace.
  EVRELAY_CHECK(parser.Parse("5:relay,1:x,", kMaxEvent).evdata == "x");
  return 0;
}
