#include "codec/request.h"

#include <charconv>

#include "evrelay/netstring.h"

namespace evrelay {

namespace {

Request Fail(ErrorCode code, std::string text) {
  Request request;
  request.error = code;
  request.error_text = std::move(text);
  return request;
}

// What an unknown verb is echoed with, so that an answer stays small.
constexpr std::size_t kEchoedBytes = 32;

}  // namespace

Request RequestParser::Parse(std::string_view payload, std::size_t max_event) {
  if (!netstring::DecodeList(payload, items_)) {
    return Fail(ErrorCode::kBadList,
                "the list is not a sequence of netstrings; \"4:ping,\" is one");
  }
  if (items_.empty()) {
    return Fail(ErrorCode::kBadArguments, "an empty list; it begins with a verb: relay, ping");
  }
  const std::string_view verb = items_.front();
  Request request;
  if (verb == kVerbNames[static_cast<std::size_t>(Verb::kRelay)]) {
    request.verb = Verb::kRelay;
    if (items_.size() != 2) {
      return Fail(ErrorCode::kBadArguments, "relay takes one argument: evdata");
    }
    request.evdata = items_[1];
    if (request.evdata.empty()) return Fail(ErrorCode::kBadArguments, "evdata is empty");
    if (request.evdata.size() > max_event) {
      return Fail(ErrorCode::kTooBig, "evdata has " + std::to_string(request.evdata.size()) +
                                          " bytes; max_event is " + std::to_string(max_event));
    }
    return request;
  }
  if (verb == kVerbNames[static_cast<std::size_t>(Verb::kPing)]) {
    request.verb = Verb::kPing;
    if (items_.size() != 1) return Fail(ErrorCode::kBadArguments, "ping takes no argument");
    return request;
  }
  return Fail(
      ErrorCode::kUnknownVerb,
      "there is no verb '" + std::string(verb.substr(0, kEchoedBytes)) + "'; known: relay, ping");
}

void AppendOk(std::string& out) { out += "5:2:ok,]"; }

void AppendOk(std::string& out, std::uint64_t subscribers) {
  char digits[20];
  const char* end = std::to_chars(digits, digits + sizeof digits, subscribers).ptr;
  const std::string_view number(digits, static_cast<std::size_t>(end - digits));
  std::string payload = "2:ok,";
  netstring::Append(payload, number);
  netstring::Append(out, payload, netstring::Type::kList);
}

void AppendError(std::string& out, ErrorCode code, std::string_view text) {
  out += netstring::EncodeList({"error", Name(code), text});
}

}  // namespace evrelay
