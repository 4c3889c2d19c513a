// RequestParser and the answers: the list frames of the producer port.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "codec/request.h"
#include "evrelay/netstring.h"
#include "support/catch.h"

namespace {

using namespace std::string_literals;
using namespace std::string_view_literals;
using evrelay::AppendError;
using evrelay::AppendOk;
using evrelay::ErrorCode;
using evrelay::Request;
using evrelay::RequestParser;
using evrelay::Verb;

constexpr std::size_t kMaxEvent = 16;

Request Parse(std::string_view payload) { return RequestParser().Parse(payload, kMaxEvent); }

std::string ErrorName(const Request& request) {
  return request.ok() ? "ok" : std::string(Name(request.error));
}

}  // namespace

TEST_CASE("request: relay names its event in place", "[request]") {
  for (const std::string_view event :
       {"x"sv, "hello"sv, "5:hello,"sv, "\0\n%"sv, "0123456789abcdef"sv}) {
    CAPTURE(event);
    const std::string payload = "5:relay," + evrelay::netstring::Encode(event);
    const Request request = Parse(payload);
    REQUIRE(ErrorName(request) == "ok");
    CHECK(request.verb == Verb::kRelay);
    CHECK(request.evdata == event);
    CHECK(request.evdata.data() == payload.data() + payload.size() - 1 - event.size());
    CHECK(request.error_text.empty());
  }
}

TEST_CASE("request: ping", "[request]") {
  CHECK(ErrorName(Parse("4:ping,")) == "ok");
  CHECK(Parse("4:ping,").verb == Verb::kPing);
  CHECK(Parse("04:ping,").verb == Verb::kPing);
}

TEST_CASE("request: what is wrong has its code and a text for people", "[request]") {
  struct Row {
    std::string_view payload;
    std::string_view code;
    std::string_view text;  // stands in the error's text
  };
  const std::vector<Row> rows{
      {"", "bad-arguments", "verb"},
      {"5:relay,", "bad-arguments", "evdata"},
      {"5:relay,0:,", "bad-arguments", "empty"},
      {"5:relay,1:x,1:y,", "bad-arguments", "one argument"},
      {"5:relay,0:,0:,", "bad-arguments", "one argument"},
      {"4:ping,0:,", "bad-arguments", "no argument"},
      {"4:ping,1:x,", "bad-arguments", "no argument"},
      {"5:relay,17:0123456789abcdefg,", "too-big", "max_event is 16"},
      {"0:,", "unknown-verb", "''"},
      {"5:Relay,1:x,", "unknown-verb", "'Relay'"},
      {"6:relay ,1:x,", "unknown-verb", "'relay '"},
      {"4:rela,1:x,", "unknown-verb", "'rela'"},
      {"9:multicast,1:x,1:t,", "unknown-verb", "'multicast'"},
      {"7:unicast,1:x,1:t,", "unknown-verb", "'unicast'"},
      {"11:async_relay,1:x,", "unknown-verb", "'async_relay'"},
      {"relay", "bad-list", "netstrings"},
      {"5:relay", "bad-list", "netstrings"},
      {"5:relay,1:x", "bad-list", "netstrings"},
      {"5:relay,1:x,y", "bad-list", "netstrings"},
      {"5:relay, 1:x,", "bad-list", "netstrings"},
      {"5:relay,1:x,\n", "bad-list", "netstrings"},
      {"5:relay,3:0:,]", "bad-list", "netstrings"},
      {"4:ping]", "bad-list", "netstrings"},
      {"4:ping,9:x,", "bad-list", "netstrings"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.payload);
    const Request request = Parse(row.payload);
    CHECK(ErrorName(request) == row.code);
    CAPTURE(request.error_text);
    CHECK(request.error_text.find(row.text) != std::string::npos);
  }
}

TEST_CASE("request: an unknown verb is echoed only in part", "[request]") {
  const std::string verb(1000, 'v');
  const Request request = Parse(evrelay::netstring::Encode(verb));
  CHECK(ErrorName(request) == "unknown-verb");
  CHECK(request.error_text.size() < 100);
}

TEST_CASE("request: a parser is used again, whatever came before", "[request]") {
  RequestParser parser;
  CHECK(ErrorName(parser.Parse("5:relay,1:x,", kMaxEvent)) == "ok");
  CHECK(ErrorName(parser.Parse("5:relay", kMaxEvent)) == "bad-list");
  CHECK(ErrorName(parser.Parse("", kMaxEvent)) == "bad-arguments");
  CHECK(parser.Parse("5:relay,1:y,", kMaxEvent).evdata == "y");
}

TEST_CASE("request: every verb that is named is known", "[request]") {
  for (std::size_t i = 0; i < evrelay::kVerbNames.size(); ++i) {
    const Request request = Parse(evrelay::netstring::Encode(evrelay::kVerbNames[i]));
    CHECK(ErrorName(request) != "unknown-verb");
  }
}

TEST_CASE("answers: exact bytes, one behind the other", "[request]") {
  std::string out;
  AppendOk(out);
  CHECK(out == "5:2:ok,]");
  AppendOk(out, 0);
  AppendOk(out, 42);
  CHECK(out == "5:2:ok,]9:2:ok,1:0,]10:2:ok,2:42,]");

  out.clear();
  AppendOk(out, UINT64_MAX);
  CHECK(out == "29:2:ok,20:18446744073709551615,]");

  out.clear();
  AppendError(out, ErrorCode::kDraining, "it stops");
  CHECK(out == "30:5:error,8:draining,8:it stops,]");
}

TEST_CASE("answers: every error code is spelled as in the manual", "[request]") {
  const std::vector<std::string_view> names{"unknown-verb", "bad-arguments", "too-big",
                                            "forbidden",    "draining",      "bad-size",
                                            "bad-type",     "bad-list",      "truncated"};
  REQUIRE(names.size() == static_cast<std::size_t>(ErrorCode::kCount));
  for (std::size_t i = 0; i < names.size(); ++i) {
    std::string out;
    AppendError(out, static_cast<ErrorCode>(i), "");
    CHECK(out == evrelay::netstring::EncodeList({"error", names[i], ""}));
  }
}
