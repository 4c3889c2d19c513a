#include "logging/escaped.h"
#include "support/catch.h"

using evrelay::Escaped;
using evrelay::OneLine;

TEST_CASE("plain text and UTF-8 stay as they are") {
  CHECK(Escaped("") == "");
  CHECK(Escaped("hello, world {1}") == "hello, world {1}");
  CHECK(Escaped("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80") ==
        "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80");
}

TEST_CASE("control bytes, quotes and backslashes are escaped") {
  CHECK(Escaped(std::string_view("a\0b", 3)) == "a\\x00b");
  CHECK(Escaped("a\nb\r\tc\x1b[31m\x7f") == "a\\x0ab\\x0d\\x09c\\x1b[31m\\x7f");
  CHECK(Escaped("\"it's\"") == "\\x22it\\x27s\\x22");
  CHECK(Escaped("\\x0a") == "\\x5cx0a");
}

TEST_CASE("characters that break or reorder a line are escaped") {
  CHECK(Escaped("\xc2\x9b") == "\\xc2\\x9b");           // C1: begins a terminal's command
  CHECK(Escaped("\xe2\x80\xa8") == "\\xe2\\x80\\xa8");  // line separator
  CHECK(Escaped("\xe2\x80\xae") == "\\xe2\\x80\\xae");  // right-to-left override
  CHECK(Escaped("\xe2\x81\xa6") == "\\xe2\\x81\\xa6");  // isolate
  CHECK(Escaped("\xe2\x80\x8f") == "\\xe2\\x80\\x8f");  // right-to-left mark
}

TEST_CASE("what is not UTF-8 is escaped byte by byte") {
  CHECK(Escaped("\xff") == "\\xff");
  CHECK(Escaped("\x80z") == "\\x80z");  // continuation first
  CHECK(Escaped("\xc3") == "\\xc3");    // cut short
  CHECK(Escaped("\xc3z") == "\\xc3z");
  CHECK(Escaped("\xc0\xaf") == "\\xc0\\xaf");  // overlong
  CHECK(Escaped("\xe0\x80\xaf") == "\\xe0\\x80\\xaf");
  CHECK(Escaped("\xf0\x80\x80\xaf") == "\\xf0\\x80\\x80\\xaf");
  CHECK(Escaped("\xed\xa0\x80") == "\\xed\\xa0\\x80");           // surrogate
  CHECK(Escaped("\xf4\x90\x80\x80") == "\\xf4\\x90\\x80\\x80");  // past the last character
}

TEST_CASE("long text is cut between characters and says its size") {
  CHECK(Escaped("abcdef", 6) == "abcdef");
  CHECK(Escaped("abcdefg", 6) == "abcdef... (7 bytes)");
  CHECK(Escaped("ab\xe2\x82\xac!", 4) == "ab... (6 bytes)");
  CHECK(Escaped(std::string(1000, 'x')) == std::string(256, 'x') + "... (1000 bytes)");
}

TEST_CASE("OneLine escapes control bytes alone") {
  CHECK(OneLine("a\nb \"c\" \xff") == "a\\x0ab \"c\" \xff");
}
