// RequestParser on any payload of a list frame, the event that is made of it, and the answers that
// go back; FindRelayRun on anything that is read.

#include <algorithm>
#include <chrono>
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
using evrelay::SuspendedId;
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

// `text` with every `from` replaced.
std::string Replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  for (std::size_t at = text.find(from); at != std::string_view::npos; at = text.find(from)) {
    out += text.substr(0, at);
    out += to;
    text.remove_prefix(at + from.size());
  }
  return out += text;
}

// The event of an async verb names the request, whichever numbers it has.
void CheckPlaceholders(std::string_view evdata) {
  for (const SuspendedId id : {SuspendedId{0, 1}, SuspendedId{7, 4242}, {UINT32_MAX, UINT32_MAX}}) {
    const std::string filled = FillPlaceholders(evdata, id);
    EVRELAY_CHECK(!filled.empty() && filled.size() <= evdata.size());
    // A number is no part of a placeholder, so one may be replaced after the other.
    const std::string expected =
        Replaced(Replaced(evdata, "$T(id_index)", std::to_string(id.index)), "$T(id_label)",
                 std::to_string(id.label));
    EVRELAY_CHECK(filled == expected);
  }
}

// The verbs with their arguments, as the manual has them.
struct Form {
  std::string_view verb;
  std::size_t least;
  std::size_t most;
  bool tag;
};
constexpr Form kForms[] = {
    {"relay", 2, 2, false},       {"multicast", 3, 3, true},       {"unicast", 3, 3, true},
    {"async_relay", 2, 3, false}, {"async_multicast", 3, 4, true}, {"async_unicast", 3, 4, true},
    {"ping", 1, 1, false},
};

void CheckGood(std::string_view payload, const Request& request,
               const std::vector<std::string_view>& items) {
  EVRELAY_CHECK(request.error_text.empty());
  EVRELAY_CHECK(items.at(0) == evrelay::kVerbNames.at(static_cast<std::size_t>(request.verb)));
  const Form* form = std::find_if(std::begin(kForms), std::end(kForms),
                                  [&](const Form& f) { return f.verb == items[0]; });
  EVRELAY_CHECK(form != std::end(kForms));
  EVRELAY_CHECK(items.size() >= form->least && items.size() <= form->most);
  if (request.verb != Verb::kPing) {
    EVRELAY_CHECK(request.evdata == items[1] && Inside(request.evdata, payload));
    EVRELAY_CHECK(!request.evdata.empty() && request.evdata.size() <= kMaxEvent);
    CheckPlaceholders(request.evdata);
  }
  if (form->tag) {
    EVRELAY_CHECK(request.etag == items[2] && Inside(request.etag, payload));
    EVRELAY_CHECK(!request.etag.empty() && request.etag.size() <= 63);
  } else {
    EVRELAY_CHECK(request.etag.empty());
  }
  EVRELAY_CHECK(request.timeout.has_value() == (items.size() > form->least));
  if (request.timeout) {
    EVRELAY_CHECK(*request.timeout >= std::chrono::milliseconds(1));
    EVRELAY_CHECK(*request.timeout <= std::chrono::hours(1));
    const std::string_view digits = items.back();
    const std::size_t first = digits.find_first_not_of('0');
    EVRELAY_CHECK(digits.substr(first) == std::to_string(request.timeout->count()));
  }
}

// What a hook's data become on the wire, whatever they are.
void CheckAnswers(std::string_view data, SuspendedId id) {
  const std::string index = std::to_string(id.index);
  const std::string label = std::to_string(id.label);
  std::string answer;
  AppendResumed(answer, id, data);
  EVRELAY_CHECK(
      (Items(answer) == std::vector<std::string>{"resumed", index, label, std::string(data)}));
  answer.clear();
  AppendSuspended(answer, id);
  EVRELAY_CHECK((Items(answer) == std::vector<std::string>{"suspended", index, label}));
  answer.clear();
  AppendExpired(answer, id);
  EVRELAY_CHECK((Items(answer) == std::vector<std::string>{"expired", index, label}));
  answer.clear();
  AppendDraining(answer, id);
  EVRELAY_CHECK((Items(answer) == std::vector<std::string>{"error", "draining", index, label}));
}

void CheckBad(const Request& request) {
  EVRELAY_CHECK(!request.error_text.empty() && request.error_text.size() < 200);
  std::string answer;
  AppendError(answer, request.error, request.error_text);
  const std::vector<std::string> items = Items(answer);
  EVRELAY_CHECK(items.size() == 3 && items[0] == "error" && items[1] == Name(request.error) &&
                items[2] == request.error_text);
}

// A run is what FrameReader and Parse would have made of the same bytes.
void CheckRelayRun(std::string_view chunk) {
  const evrelay::AlikeFrames run = evrelay::FindRelayRun(chunk, kMaxEvent);
  for (std::uint32_t number = 0; number < run.count; ++number) {
    const std::string_view frame = chunk.substr(number * run.stride, run.stride);
    const Decoded list = Decode(frame, Limits{.data = Limits::kNotAccepted, .list = 1 << 20});
    EVRELAY_CHECK(list.status == Status::kFrame && list.consumed == run.stride);
    RequestParser parser;
    const Request request = parser.Parse(list.payload, kMaxEvent);
    EVRELAY_CHECK(request.ok() && request.verb == Verb::kRelay);
    EVRELAY_CHECK(run.wire(number) == Encode(request.evdata) && Inside(run.wire(number), frame));
    EVRELAY_CHECK(run.payload_bytes == request.evdata.size());
  }
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

  CheckAnswers(payload, {static_cast<std::uint32_t>(size), ~static_cast<std::uint32_t>(size)});

  CheckRelayRun(payload);
  // The same bytes as an event, several times.
  std::string requests;
  for (int i = 0; i < 3; ++i) requests += EncodeList({"relay", payload});
  CheckRelayRun(requests);
  const std::uint32_t alike = payload.empty() || payload.size() > kMaxEvent ? 0 : 3;
  EVRELAY_CHECK(evrelay::FindRelayRun(requests, kMaxEvent).count == alike);

  // What came before leaves no trace.
  const Request next = parser.Parse("11:async_relay,1:x,", kMaxEvent);
  EVRELAY_CHECK(next.ok() && next.evdata == "x" && next.etag.empty() && !next.timeout);
  return 0;
}
