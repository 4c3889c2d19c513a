// How sub shows one event: exact bytes for given times and payloads.

#include <time.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <string_view>

#include "client/event_format.h"
#include "support/catch.h"

using evrelay::AppendJsonLine;
using evrelay::AppendTerminalLine;
using evrelay::WallTime;
using std::chrono::microseconds;
using std::chrono::seconds;

namespace {

constexpr WallTime kNoon{seconds{1'769'860'800} + microseconds{123'456}};  // 2026-01-31T12:00Z

std::string JsonData(std::string_view payload) {
  std::string line;
  AppendJsonLine(line, kNoon, payload);
  const std::string begin = R"({"time":"2026-01-31T12:00:00.123456Z",)";
  REQUIRE(line.substr(0, begin.size()) == begin);
  return line.substr(begin.size());
}

std::string TerminalText(std::string_view payload) {
  std::string line;
  AppendTerminalLine(line, kNoon, payload);
  return line.substr(std::string_view("12:00:00.123 ").size());
}

}  // namespace

TEST_CASE("times are UTC in JSON, to the microsecond") {
  std::string out = "before ";
  AppendJsonLine(out, WallTime(seconds{951'782'399}), "x");
  AppendJsonLine(out, WallTime(seconds{951'782'399} + microseconds{999'999}), "x");
  CHECK(out ==
        "before {\"time\":\"2000-02-28T23:59:59.000000Z\",\"data\":\"x\"}\n"
        "{\"time\":\"2000-02-28T23:59:59.999999Z\",\"data\":\"x\"}\n");
}

TEST_CASE("times are local on a terminal, to the millisecond") {
  ::setenv("TZ", "EAST-05:30", 1);
  ::tzset();
  std::string out;
  AppendTerminalLine(out, kNoon, "x");
  AppendTerminalLine(out, kNoon + microseconds{876'543}, "y");
  ::unsetenv("TZ");
  ::tzset();
  CHECK(out == "17:30:00.123 x\n17:30:00.999 y\n");
}

TEST_CASE("a terminal line escapes controls and what is not UTF-8, and nothing else") {
  CHECK(TerminalText("plain text \"quoted\"") == "plain text \"quoted\"\n");
  CHECK(TerminalText("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80") ==
        "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80\n");
  CHECK(TerminalText("a\nb\r\tc\\n") == "a\\nb\\r\\tc\\\\n\n");
  CHECK(TerminalText(std::string_view("\0\x1b[31m\x7f", 7)) == "\\x00\\x1b[31m\\x7f\n");
  CHECK(TerminalText("\xc2\x80\xc2\x9f\xc2\xa0") == "\\xc2\\x80\\xc2\\x9f\xc2\xa0\n");
  CHECK(TerminalText("\xc3") == "\\xc3\n");
  CHECK(TerminalText("\xc3(") == "\\xc3(\n");
  CHECK(TerminalText("") == "\n");
}

TEST_CASE("JSON carries UTF-8 as text") {
  CHECK(JsonData("a \"b\" \\ \n\x01") == "\"data\":\"a \\\"b\\\" \\\\ \\n\\u0001\"}\n");
  CHECK(JsonData("\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf") ==
        "\"data\":\"\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"}\n");
  CHECK(JsonData(std::string_view("\0", 1)) == "\"data\":\"\\u0000\"}\n");
}

TEST_CASE("JSON carries everything else in base64") {
  CHECK(JsonData("\xff") == "\"data_base64\":\"/w==\"}\n");
  CHECK(JsonData("\xff\xfe") == "\"data_base64\":\"//4=\"}\n");
  CHECK(JsonData("\xff\xfe\xfd") == "\"data_base64\":\"//79\"}\n");
  CHECK(JsonData("hello\xff+") == "\"data_base64\":\"aGVsbG//Kw==\"}\n");
  const std::string_view not_utf8 =
      GENERATE("\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf",
               "\xed\xa0\x80", "\xed\xbf\xbf", "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80",
               "\xe2\x82", "\xe2(\xac", "ok\xc3");
  CHECK(JsonData(not_utf8).find("\"data_base64\":") == 0);
}
