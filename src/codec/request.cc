#include "codec/request.h"

#include <array>
#include <charconv>

#include "evrelay/action.h"
#include "evrelay/netstring.h"

namespace evrelay {

namespace {

// What an unknown verb is echoed with, so that an answer stays small.
constexpr std::size_t kEchoedBytes = 32;

// What a verb takes, in this order.
struct Arguments {
  bool evdata = false;
  bool etag = false;
  bool timeout = false;  // may be left out
  std::string_view text;
};

// By Verb.
constexpr std::array<Arguments, kVerbNames.size()> kArguments{{
    {true, false, false, "evdata"},
    {true, true, false, "evdata, etag"},
    {true, true, false, "evdata, etag"},
    {true, false, true, "evdata [timeout_ms]"},
    {true, true, true, "evdata, etag [timeout_ms]"},
    {true, true, true, "evdata, etag [timeout_ms]"},
    {false, false, false, "no argument"},
}};

Request Fail(ErrorCode code, std::string text) {
  Request request;
  request.error = code;
  request.error_text = std::move(text);
  return request;
}

Verb FindVerb(std::string_view name) {
  std::size_t at = 0;
  while (at < kVerbNames.size() && kVerbNames[at] != name) ++at;
  return static_cast<Verb>(at);
}

// A number as text, for as long as it lives.
class Digits {
 public:
  explicit Digits(std::uint64_t number)
      : end_(std::to_chars(text_, text_ + sizeof text_, number).ptr) {}
  operator std::string_view() const { return {text_, static_cast<std::size_t>(end_ - text_)}; }

 private:
  char text_[20];
  const char* end_;
};

std::optional<std::chrono::milliseconds> ReadTimeout(std::string_view text) {
  std::uint32_t ms = 0;
  const char* end = text.data() + text.size();
  const auto read = std::from_chars(text.data(), end, ms);
  if (read.ec != std::errc() || read.ptr != end || ms < 1 || ms > kMaxSuspension.count()) {
    return std::nullopt;
  }
  return std::chrono::milliseconds(ms);
}

}  // namespace

Request RequestParser::Parse(std::string_view payload, std::size_t max_event) {
  if (!netstring::DecodeList(payload, items_)) {
    return Fail(ErrorCode::kBadList,
                "the list is not a sequence of netstrings; \"4:ping,\" is one");
  }
  if (items_.empty()) {
    return Fail(ErrorCode::kBadArguments, "an empty list; it begins with a verb such as ping");
  }
  Request request;
  request.verb = FindVerb(items_.front());
  if (request.verb == Verb::kCount) {
    return Fail(ErrorCode::kUnknownVerb, "there is no verb '" +
                                             std::string(items_.front().substr(0, kEchoedBytes)) +
                                             "'; evrelay-protocol(7) names them");
  }
  const Arguments& takes = kArguments[static_cast<std::size_t>(request.verb)];
  const std::size_t needed = std::size_t{1} + takes.evdata + takes.etag;
  if (items_.size() < needed || items_.size() > needed + takes.timeout) {
    return Fail(ErrorCode::kBadArguments,
                std::string(Name(request.verb)) + " takes " + std::string(takes.text));
  }
  if (takes.evdata) {
    request.evdata = items_[1];
    if (request.evdata.empty()) return Fail(ErrorCode::kBadArguments, "evdata is empty");
    if (request.evdata.size() > max_event) {
      return Fail(ErrorCode::kTooBig, "evdata has " + std::to_string(request.evdata.size()) +
                                          " bytes; max_event is " + std::to_string(max_event));
    }
  }
  if (takes.etag) {
    request.etag = items_[2];
    if (request.etag.empty()) return Fail(ErrorCode::kBadArguments, "etag is empty");
    if (request.etag.size() > kMaxTag) {
      return Fail(ErrorCode::kBadArguments, "etag has " + std::to_string(request.etag.size()) +
                                                " bytes; a tag has at most " +
                                                std::to_string(kMaxTag));
    }
  }
  if (items_.size() > needed) {
    request.timeout = ReadTimeout(items_.back());
    if (!request.timeout) {
      return Fail(ErrorCode::kBadArguments, "timeout_ms is a whole number from 1 to " +
                                                std::to_string(kMaxSuspension.count()) +
                                                ", in milliseconds");
    }
  }
  return request;
}

AlikeFrames FindRelayRun(std::string_view chunk, std::size_t max_event) {
  constexpr std::string_view kVerb = "5:relay,";
  const netstring::Limits list{.list = static_cast<std::int64_t>(max_event) +
                                       static_cast<std::int64_t>(kListOverhead)};
  if (chunk.empty() || chunk.front() == '0' || netstring::IsSpace(chunk.front())) return {};
  const netstring::Decoded request = netstring::Decode(chunk, list);
  if (request.status != netstring::Status::kFrame || !request.payload.starts_with(kVerb)) return {};

  const std::string_view wire = request.payload.substr(kVerb.size());
  if (wire.empty() || netstring::IsSpace(wire.front())) return {};
  const netstring::Decoded event =
      netstring::Decode(wire, {.data = static_cast<std::int64_t>(max_event)});
  if (event.status != netstring::Status::kFrame || !event.canonical || event.payload.empty() ||
      event.consumed != wire.size()) {
    return {};
  }

  const std::size_t stride = request.consumed;
  const auto head = chunk.substr(0, stride - 2 - event.payload.size());
  AlikeFrames run{.first = wire, .payload_bytes = event.payload.size(), .stride = stride};
  do {
    ++run.count;
    chunk.remove_prefix(stride);
  } while (chunk.size() >= stride && chunk.starts_with(head) &&
           chunk.substr(stride - 2, 2) == ",]");
  return run;
}

std::string FillPlaceholders(std::string_view evdata, SuspendedId request) {
  constexpr std::string_view kIndex = "$T(id_index)";
  constexpr std::string_view kLabel = "$T(id_label)";
  std::string out;
  out.reserve(evdata.size());
  while (true) {
    const std::size_t at = evdata.find('$');
    out += evdata.substr(0, at);
    if (at == std::string_view::npos) return out;
    evdata.remove_prefix(at);
    if (evdata.starts_with(kIndex)) {
      out += Digits(request.index);
      evdata.remove_prefix(kIndex.size());
    } else if (evdata.starts_with(kLabel)) {
      out += Digits(request.label);
      evdata.remove_prefix(kLabel.size());
    } else {
      out += '$';
      evdata.remove_prefix(1);
    }
  }
}

void AppendOk(std::string& out) { out += "5:2:ok,]"; }

void AppendOk(std::string& out, std::uint64_t subscribers) {
  std::string payload = "2:ok,";
  netstring::Append(payload, Digits(subscribers));
  netstring::Append(out, payload, netstring::Type::kList);
}

void AppendError(std::string& out, ErrorCode code, std::string_view text) {
  out += netstring::EncodeList({"error", Name(code), text});
}

void AppendSuspended(std::string& out, SuspendedId request) {
  out += netstring::EncodeList({"suspended", Digits(request.index), Digits(request.label)});
}

void AppendResumed(std::string& out, SuspendedId request, std::string_view data) {
  out += netstring::EncodeList({"resumed", Digits(request.index), Digits(request.label), data});
}

void AppendExpired(std::string& out, SuspendedId request) {
  out += netstring::EncodeList({"expired", Digits(request.index), Digits(request.label)});
}

void AppendDraining(std::string& out, SuspendedId request) {
  out += netstring::EncodeList(
      {"error", Name(ErrorCode::kDraining), Digits(request.index), Digits(request.label)});
}

}  // namespace evrelay
