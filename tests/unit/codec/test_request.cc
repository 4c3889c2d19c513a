// RequestParser and the answers: the list frames of the producer port.

#include <chrono>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "codec/request.h"
#include "evrelay/netstring.h"
#include "support/catch.h"

namespace {

using namespace std::chrono_literals;
using namespace std::string_literals;
using namespace std::string_view_literals;
using evrelay::AlikeFrames;
using evrelay::AppendDraining;
using evrelay::AppendError;
using evrelay::AppendExpired;
using evrelay::AppendOk;
using evrelay::AppendResumed;
using evrelay::AppendSuspended;
using evrelay::ErrorCode;
using evrelay::FillPlaceholders;
using evrelay::FindRelayRun;
using evrelay::Request;
using evrelay::RequestParser;
using evrelay::SuspendedId;
using evrelay::Verb;
using evrelay::netstring::EncodeList;

constexpr std::size_t kMaxEvent = 16;

Request Parse(std::string_view payload) { return RequestParser().Parse(payload, kMaxEvent); }

// The payload of a list of these words.
std::string List(const std::vector<std::string_view>& words) {
  std::string payload;
  for (const std::string_view word : words) evrelay::netstring::Append(payload, word);
  return payload;
}

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

TEST_CASE("request: every verb has its arguments, in evapi's order", "[request]") {
  struct Row {
    std::vector<std::string_view> words;
    Verb verb;
    std::string_view evdata;
    std::string_view etag;
    std::optional<std::chrono::milliseconds> timeout;
  };
  const std::vector<Row> rows{
      {{"relay", "ev"}, Verb::kRelay, "ev", "", {}},
      {{"multicast", "ev", "tag"}, Verb::kMulticast, "ev", "tag", {}},
      {{"unicast", "ev", "tag"}, Verb::kUnicast, "ev", "tag", {}},
      {{"async_relay", "ev"}, Verb::kAsyncRelay, "ev", "", {}},
      {{"async_relay", "ev", "70"}, Verb::kAsyncRelay, "ev", "", 70ms},
      {{"async_multicast", "ev", "tag"}, Verb::kAsyncMulticast, "ev", "tag", {}},
      {{"async_multicast", "ev", "tag", "70"}, Verb::kAsyncMulticast, "ev", "tag", 70ms},
      {{"async_unicast", "ev", "tag"}, Verb::kAsyncUnicast, "ev", "tag", {}},
      {{"async_unicast", "ev", "tag", "70"}, Verb::kAsyncUnicast, "ev", "tag", 70ms},
      {{"ping"}, Verb::kPing, "", "", {}},
  };
  for (const Row& row : rows) {
    const std::string payload = List(row.words);
    CAPTURE(payload);
    const Request request = Parse(payload);
    REQUIRE(ErrorName(request) == "ok");
    CHECK(request.verb == row.verb);
    CHECK(request.evdata == row.evdata);
    CHECK(request.etag == row.etag);
    CHECK(request.timeout == row.timeout);
    CHECK(request.error_text.empty());

    // One word less than is needed, one more than may be.
    std::vector<std::string_view> words = row.words;
    if (!row.timeout) {
      words.pop_back();
      CHECK(ErrorName(Parse(List(words))) == "bad-arguments");
      words = row.words;
    }
    words.insert(words.end(), words.back() == "70" || row.verb == Verb::kPing ? 1 : 2, "80");
    CHECK(ErrorName(Parse(List(words))) == "bad-arguments");
  }
}

TEST_CASE("request: the timeout is a whole number of milliseconds, up to an hour", "[request]") {
  struct Row {
    std::string_view text;
    std::uint32_t ms;  // 0: refused
  };
  const std::vector<Row> rows{
      {"1", 1},
      {"007", 7},
      {"30000", 30'000},
      {"3600000", 3'600'000},
      {"3600001", 0},
      {"0", 0},
      {"000", 0},
      {"", 0},
      {"-1", 0},
      {"+1", 0},
      {" 1", 0},
      {"1 ", 0},
      {"1\0"sv, 0},
      {"1.5", 0},
      {"1.0", 0},
      {"1e3", 0},
      {"0x10", 0},
      {"1s", 0},
      {"ms", 0},
      {"4294967295", 0},
      {"4294967297", 0},
      {"18446744073709551617", 0},
      {"99999999999999999999999999999999999", 0},
  };
  for (const Row& row : rows) {
    CAPTURE(row.text);
    for (const Request& request : {Parse(List({"async_relay", "x", row.text})),
                                   Parse(List({"async_multicast", "x", "t", row.text})),
                                   Parse(List({"async_unicast", "x", "t", row.text}))}) {
      if (row.ms != 0) {
        REQUIRE(ErrorName(request) == "ok");
        CHECK(request.timeout == std::chrono::milliseconds(row.ms));
      } else {
        CHECK(ErrorName(request) == "bad-arguments");
        CHECK(request.error_text.find("from 1 to 3600000") != std::string::npos);
      }
    }
  }
}

TEST_CASE("request: event and tag have their bounds in every verb", "[request]") {
  const std::string event(kMaxEvent, 'e');
  const std::string tag(63, 't');
  for (const std::string_view verb :
       {"relay", "multicast", "unicast", "async_relay", "async_multicast", "async_unicast"}) {
    CAPTURE(verb);
    const bool tagged = verb != "relay" && verb != "async_relay";
    const auto with = [&](std::string_view evdata, std::string_view etag) {
      return tagged ? List({verb, evdata, etag}) : List({verb, evdata});
    };
    CHECK(ErrorName(Parse(with(event, tag))) == "ok");
    CHECK(ErrorName(Parse(with("", tag))) == "bad-arguments");
    const Request long_event = Parse(with(event + "e", tag));
    CHECK(ErrorName(long_event) == "too-big");
    CHECK(long_event.error_text == "evdata has 17 bytes; max_event is 16");
    if (!tagged) continue;
    CHECK(Parse(with("x", "\0 %,]"sv)).etag == "\0 %,]"sv);
    CHECK(Parse(with("x", "")).error_text == "etag is empty");
    const Request long_tag = Parse(with("x", tag + "t"));
    CHECK(ErrorName(long_tag) == "bad-arguments");
    CHECK(long_tag.error_text == "etag has 64 bytes; a tag has at most 63");
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
      {"5:relay,1:x,1:y,", "bad-arguments", "relay takes evdata"},
      {"5:relay,0:,0:,", "bad-arguments", "relay takes evdata"},
      {"9:multicast,1:x,", "bad-arguments", "multicast takes evdata, etag"},
      {"7:unicast,1:x,1:t,1:1,", "bad-arguments", "unicast takes evdata, etag"},
      {"11:async_relay,", "bad-arguments", "async_relay takes evdata [timeout_ms]"},
      {"11:async_relay,1:x,1:t,", "bad-arguments", "timeout_ms"},
      {"11:async_relay,1:x,1:1,1:1,", "bad-arguments", "async_relay takes evdata [timeout_ms]"},
      {"13:async_unicast,1:x,", "bad-arguments", "async_unicast takes evdata, etag [timeout_ms]"},
      {"15:async_multicast,1:x,1:t,1:1,0:,", "bad-arguments", "takes evdata, etag [timeout_ms]"},
      {"4:ping,0:,", "bad-arguments", "no argument"},
      {"4:ping,1:x,", "bad-arguments", "no argument"},
      {"5:relay,17:0123456789abcdefg,", "too-big", "max_event is 16"},
      {"0:,", "unknown-verb", "''"},
      {"5:Relay,1:x,", "unknown-verb", "'Relay'"},
      {"6:relay ,1:x,", "unknown-verb", "'relay '"},
      {"4:rela,1:x,", "unknown-verb", "'rela'"},
      {"5:async,1:x,", "unknown-verb", "'async'"},
      {"10:async_ping,", "unknown-verb", "'async_ping'"},
      {"6:resume,1:0,1:1,1:x,", "unknown-verb", "'resume'"},
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
  CHECK(ErrorName(parser.Parse("13:async_unicast,1:x,1:t,2:70,", kMaxEvent)) == "ok");
  const Request request = parser.Parse("5:relay,1:y,", kMaxEvent);
  CHECK(request.evdata == "y");
  CHECK(request.etag.empty());
  CHECK_FALSE(request.timeout);
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
  const std::vector<std::string_view> names{
      "no-subscriber", "overloaded", "unknown-verb", "bad-arguments", "too-big",  "forbidden",
      "draining",      "bad-size",   "bad-type",     "bad-list",      "truncated"};
  REQUIRE(names.size() == static_cast<std::size_t>(ErrorCode::kCount));
  for (std::size_t i = 0; i < names.size(); ++i) {
    std::string out;
    AppendError(out, static_cast<ErrorCode>(i), "");
    CHECK(out == evrelay::netstring::EncodeList({"error", names[i], ""}));
  }
}

TEST_CASE("answers: those to suspended requests", "[request]") {
  std::string out;
  AppendSuspended(out, {0, 1});
  CHECK(out == "20:9:suspended,1:0,1:1,]");
  AppendResumed(out, {7, 42}, "done");
  CHECK(out == "20:9:suspended,1:0,1:1,]26:7:resumed,1:7,2:42,4:done,]");

  out.clear();
  AppendExpired(out, {UINT32_MAX, UINT32_MAX});
  CHECK(out == "38:7:expired,10:4294967295,10:4294967295,]");

  out.clear();
  AppendDraining(out, {7, 42});
  CHECK(out == "28:5:error,8:draining,1:7,2:42,]");

  out.clear();
  const std::string bytes = "\0\n5:x,%]"s;
  AppendResumed(out, {3, 4}, bytes);
  CHECK(out == EncodeList({"resumed", "3", "4", bytes}));
}

TEST_CASE("placeholders: the numbers stand where the event names them", "[request]") {
  struct Row {
    std::string_view before;
    std::string_view after;
  };
  const std::vector<Row> rows{
      {"", ""},
      {"hello", "hello"},
      {"$T(id_index)", "7"},
      {"$T(id_label)", "4242"},
      {"$T(id_index):$T(id_label)", "7:4242"},
      {"$T(id_label)$T(id_index)", "42427"},
      {"{\"index\":$T(id_index),\"again\":$T(id_index)}", "{\"index\":7,\"again\":7}"},
      {"$$T(id_index)$", "$7$"},
      {"$T($T(id_index)", "$T(7"},
      {"$T(id_$T(id_label)", "$T(id_4242"},
      {"$T(id_index)\0$T(id_label)\n"sv, "7\0004242\n"sv},
      // Nothing else is one.
      {"$", "$"},
      {"$T", "$T"},
      {"$T(", "$T("},
      {"$T(id_index", "$T(id_index"},
      {"$T(id_label", "$T(id_label"},
      {"$T(id_index]", "$T(id_index]"},
      {"$T(id_Index)", "$T(id_Index)"},
      {"$t(id_index)", "$t(id_index)"},
      {"$T (id_index)", "$T (id_index)"},
      {"$T(id_labels)", "$T(id_labels)"},
      {"T(id_index)", "T(id_index)"},
      {"${id_index}$(id_label)%s$1", "${id_index}$(id_label)%s$1"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.before);
    CHECK(FillPlaceholders(row.before, {7, 4242}) == row.after);
  }
}

TEST_CASE("placeholders: the event never becomes longer", "[request]") {
  std::mt19937 random(1);
  const std::vector<std::string> pieces{"$T(id_index)", "$T(id_label)", "$", "$T(", "x", "(id_"};
  for (int i = 0; i < 2000; ++i) {
    std::string event;
    for (std::size_t k = random() % 8; k > 0; --k) event += pieces[random() % pieces.size()];
    CAPTURE(event);
    CHECK(FillPlaceholders(event, {UINT32_MAX, UINT32_MAX}).size() <= event.size());
  }
}

TEST_CASE("request: relay requests of one size are found together", "[request]") {
  struct Row {
    std::string chunk;
    std::uint32_t count;
  };
  const std::string one = EncodeList({"relay", "one"});
  const std::string two = EncodeList({"relay", "two"});
  const std::vector<Row> rows{
      {one, 1},
      {one + two, 2},
      {one + two + one.substr(0, one.size() - 1), 2},
      {one + two + EncodeList({"relay", "four"}), 2},
      {one + two + EncodeList({"ping"}), 2},
      {one + two + "3:abc,", 2},
      {one + " " + two, 1},
      {one + "14:5:relay,3:two,,", 1},
      {one + "14:5:relay,3:two;]", 1},
      {one + "14:5:relax,3:two,]", 1},
      {EncodeList({"relay", "0123456789abcdef"}), 1},
  };
  for (const Row& row : rows) {
    CAPTURE(row.chunk);
    const AlikeFrames run = FindRelayRun(row.chunk, kMaxEvent);
    REQUIRE(run.count == row.count);
    CHECK(run.payload_bytes == (run.first.size() > 6 ? kMaxEvent : 3));
    CHECK(run.wire(0) == run.first);
    CHECK((run.first == "3:one," || run.first == "16:0123456789abcdef,"));
    CHECK(run.first.data() == row.chunk.data() + run.stride - 1 - run.first.size());
    if (run.count == 2) CHECK(run.wire(1) == "3:two,");
  }
}

TEST_CASE("request: whatever is not plainly a relay request is none of a run", "[request]") {
  for (const std::string& chunk : {""s,
                                   "1"s,
                                   "14:5:relay,3:one,"s,
                                   "3:abc,"s,
                                   " "s + EncodeList({"relay", "one"}),
                                   "014:5:relay,3:one,]"s,
                                   "15:5:relay,03:one,]"s,
                                   "15:5:relay, 3:one,]"s,
                                   "15:5:relay,3:one, ]"s,
                                   "15:05:relay,3:one,]"s,
                                   "11:5:relay,0:,]"s,
                                   "8:5:relay,]"s,
                                   "13:5:relay,3:one]"s,
                                   "14:5:relay,3:one]]"s,
                                   "14:5:relay,3:one,,"s,
                                   "0:]"s,
                                   EncodeList({"relay", "one", "two"}),
                                   EncodeList({"async_relay", "one"}),
                                   EncodeList({"multicast", "one", "tag"}),
                                   EncodeList({"ping"}),
                                   EncodeList({"relay", "0123456789abcdefg"})}) {
    CAPTURE(chunk);
    CHECK(FindRelayRun(chunk, kMaxEvent).count == 0);
  }
}
