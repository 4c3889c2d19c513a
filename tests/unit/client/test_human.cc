// Numbers and tables for people.

#include <string>
#include <vector>

#include "client/human.h"
#include "support/catch.h"

namespace evrelay {
namespace {

using std::chrono::seconds;

TEST_CASE("bytes are told in the unit that suits them") {
  CHECK(HumanBytes(0) == "0 B");
  CHECK(HumanBytes(1023) == "1023 B");
  CHECK(HumanBytes(1024) == "1 KiB");
  CHECK(HumanBytes(1229) == "1.2 KiB");
  CHECK(HumanBytes(16 << 20) == "16 MiB");
  CHECK(HumanBytes((16 << 20) + (1 << 19)) == "16.5 MiB");
  CHECK(HumanBytes((1 << 20) - 1) == "1 MiB");
  CHECK(HumanBytes((1 << 20) - 103) == "1023.9 KiB");
  CHECK(HumanBytes(std::uint64_t{5} << 40) == "5 TiB");
  CHECK(HumanBytes(UINT64_MAX) == "16 EiB");
}

TEST_CASE("times are told in their two largest units") {
  CHECK(HumanTime(seconds(0)) == "0s");
  CHECK(HumanTime(seconds(59)) == "59s");
  CHECK(HumanTime(seconds(60)) == "1m");
  CHECK(HumanTime(seconds(130)) == "2m 10s");
  CHECK(HumanTime(seconds(3599)) == "59m 59s");
  CHECK(HumanTime(seconds(3600)) == "1h");
  CHECK(HumanTime(seconds(3659)) == "1h");
  CHECK(HumanTime(seconds(3 * 86400 + 4 * 3600 + 59)) == "3d 4h");
  CHECK(HumanTime(seconds(400 * 86400)) == "400d");
}

TEST_CASE("a table's columns are as wide as their widest cell, in code points") {
  CHECK(AlignedTable({}, {}) == "");
  CHECK(AlignedTable({{"N", "NAME", "X"}, {"10", "Köln", "long"}, {"9", "a", ""}}, {true, false}) ==
        " N  NAME  X\n"
        "10  Köln  long\n"
        " 9  a\n");
}

}  // namespace
}  // namespace evrelay
