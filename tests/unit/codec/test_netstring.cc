// include/evrelay/netstring.h: one frame at a time, and lists.

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "evrelay/netstring.h"
#include "support/catch.h"

namespace {

using namespace std::string_literals;
using namespace std::string_view_literals;
using namespace evrelay::netstring;

constexpr Limits kData{.data = 64};
constexpr Limits kBoth{.data = 64, .list = 128};

bool Inside(std::string_view part, std::string_view whole) {
  return part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size();
}

}  // namespace

TEST_CASE("netstring: frames are decoded in place", "[netstring]") {
  struct Row {
    std::string_view input;
    Type type;
    std::string_view payload;
    std::size_t consumed;
    bool canonical;
  };
  const std::vector<Row> rows{
      {"5:hello,", Type::kData, "hello", 8, true},
      {"0:,", Type::kData, "", 3, true},
      {"1:,,", Type::kData, ",", 4, true},
      {"5:hello,5:world,", Type::kData, "hello", 8, true},
      {" \t\r\n5:hello,\r\n", Type::kData, "hello", 12, true},
      {"4: \n\t ,", Type::kData, " \n\t ", 7, true},
      {"8:5:hello,,", Type::kData, "5:hello,", 11, true},
      {"5:\0%s\n\xff,"sv, Type::kData, "\0%s\n\xff"sv, 8, true},
      {"10:0123456789,", Type::kData, "0123456789", 14, true},
      {"05:hello,", Type::kData, "hello", 9, false},
      {"00:,", Type::kData, "", 4, false},
      {"00000000000000000000000000000005:hello,", Type::kData, "hello", 39, false},
      {"0:]", Type::kList, "", 3, true},
      {"7:4:ping,]", Type::kList, "4:ping,", 10, true},
      {"27:7:unicast,5:hello,6:tag-42,]", Type::kList, "7:unicast,5:hello,6:tag-42,", 31, true},
      {"3:abc]", Type::kList, "abc", 6, true},
  };
  for (const Row& row : rows) {
    CAPTURE(row.input);
    const Decoded decoded = Decode(row.input, kBoth);
    REQUIRE(decoded.status == Status::kFrame);
    CHECK(decoded.error == Error::kNone);
    CHECK(decoded.type == row.type);
    CHECK(decoded.payload == row.payload);
    CHECK(decoded.consumed == row.consumed);
    CHECK(decoded.canonical == row.canonical);
    CHECK(Inside(decoded.payload, row.input));
  }
}

TEST_CASE("netstring: malformed frames have exact names", "[netstring]") {
  struct Row {
    std::string_view input;
    std::string_view error;
    std::size_t consumed = 0;
  };
  const std::vector<Row> rows{
      {":", "bad-size"},
      {",", "bad-size"},
      {"x", "bad-size"},
      {":hello,", "bad-size"},
      {"hello", "bad-size"},
      {"+5:hello,", "bad-size"},
      {"-5:hello,", "bad-size"},
      {"-1:", "bad-size"},
      {"0x5:hello,", "bad-size"},
      {"5 :hello,", "bad-size"},
      {"5\n:hello,", "bad-size"},
      {"5,", "bad-size"},
      {"5.0:hello,", "bad-size"},
      {"5a", "bad-size"},
      {"\0"sv, "bad-size"},
      {"\v5:hello,", "bad-size"},
      {"\xd9\xa5:hello,", "bad-size"},
      {"  x", "bad-size", 2},
      {"4294967296", "bad-size"},
      {"4294967296:", "bad-size"},
      {"4294967301:hello,", "bad-size"},
      {"99999999999:", "bad-size"},
      {"18446744073709551621:hello,", "bad-size"},
      {"99999999999999999999999999999999:", "bad-size"},
      {"000000000000000000000000000000005", "bad-size"},
      {"000000000000000000000000000000005:hello,", "bad-size"},
      {"4294967295:", "too-big"},
      {"2147483648:", "too-big"},
      {"2147483647:x", "too-big"},
      {"129:", "too-big"},
      {"\t129:", "too-big", 1},
      {"5:hello;", "bad-type"},
      {"5:hello\n", "bad-type"},
      {"5:hello}", "bad-type"},
      {"5:hello\0"sv, "bad-type"},
      {"4:hello,", "bad-type"},
      {"0:x", "bad-type"},
      {"\n0:\n", "bad-type", 1},
  };
  for (const Row& row : rows) {
    CAPTURE(row.input);
    const Decoded decoded = Decode(row.input, kBoth);
    CHECK(decoded.status == Status::kError);
    CHECK(Name(decoded.error) == row.error);
    CHECK(decoded.consumed == row.consumed);
  }
}

TEST_CASE("netstring: every error has its own name", "[netstring]") {
  CHECK(Name(Error::kNone) == "none");
  CHECK(Name(Error::kBadSize) == "bad-size");
  CHECK(Name(Error::kTooBig) == "too-big");
  CHECK(Name(Error::kBadType) == "bad-type");
  CHECK(Name(Error::kBadList) == "bad-list");
  CHECK(Name(Error::kTruncated) == "truncated");
}

TEST_CASE("netstring: the limit is exact and belongs to the type", "[netstring]") {
  const auto decode = [](std::size_t size, char type, const Limits& limits) {
    return Decode(std::to_string(size) + ":" + std::string(size, 'x') + type, limits);
  };
  CHECK(decode(64, ',', kData).status == Status::kFrame);
  CHECK(decode(65, ',', kData).error == Error::kTooBig);
  CHECK(decode(64, ',', kBoth).status == Status::kFrame);
  CHECK(decode(65, ',', kBoth).error == Error::kTooBig);
  CHECK(decode(65, ']', kBoth).status == Status::kFrame);
  CHECK(decode(128, ']', kBoth).status == Status::kFrame);
  CHECK(decode(129, ']', kBoth).error == Error::kTooBig);
  CHECK(decode(5, ']', kData).error == Error::kBadType);
  CHECK(decode(5, ',', Limits{.data = Limits::kNotAccepted, .list = 128}).error == Error::kBadType);
  CHECK(decode(0, ',', Limits{.data = 0}).status == Status::kFrame);
  CHECK(decode(1, ',', Limits{.data = 0}).error == Error::kTooBig);
  CHECK(decode(5, ']', Limits{.data = 64, .list = 4}).error == Error::kTooBig);
}

TEST_CASE("netstring: too-big is known from the size alone", "[netstring]") {
  CHECK(Decode("65", kData).status == Status::kMore);
  CHECK(Decode("65:", kData).error == Error::kTooBig);
  CHECK(Decode("64:", kData).status == Status::kMore);
  // The largest limit there can be accepts the largest size there can be.
  const Decoded largest = Decode("4294967295:", Limits{.data = UINT32_MAX});
  CHECK(largest.status == Status::kMore);
  CHECK(largest.need == std::size_t{11} + UINT32_MAX + 1);
}

TEST_CASE("netstring: every prefix of a frame asks for more and says how much", "[netstring]") {
  for (const std::string_view frame :
       {"5:hello,"sv, "0:,"sv, "0005:hello,"sv, "12:hello, world,"sv, "7:4:ping,]"sv}) {
    for (const std::string_view space : {""sv, " "sv, "\r\n"sv}) {
      const std::string input = std::string(space).append(frame);
      const std::size_t colon = input.find(':');
      for (std::size_t length = 0; length < input.size(); ++length) {
        CAPTURE(input, length);
        const Decoded decoded = Decode(std::string_view(input).substr(0, length), kBoth);
        CHECK(decoded.status == Status::kMore);
        CHECK(decoded.error == Error::kNone);
        CHECK(decoded.consumed == std::min(length, space.size()));
        CHECK(decoded.need == (length <= colon ? 0 : frame.size()));
      }
    }
  }
  CHECK(Decode("", kBoth).consumed == 0);
  CHECK(Decode(" \n \n", kBoth).consumed == 4);
}

TEST_CASE("netstring: what is written is what the manual shows", "[netstring]") {
  CHECK(Encode("hello") == "5:hello,");
  CHECK(Encode("") == "0:,");
  CHECK(Encode("4:ping,", Type::kList) == "7:4:ping,]");
  CHECK(Encode("{\n \"event\": \"test\",\n \"data\": { \"fU\": \"test\" }\n}") ==
        "47:{\n \"event\": \"test\",\n \"data\": { \"fU\": \"test\" }\n},");
  CHECK(EncodeList({"unicast", "hello", "tag-42"}) == "27:7:unicast,5:hello,6:tag-42,]");
  CHECK(EncodeList(std::vector<std::string_view>{}) == "0:]");
  CHECK(EncodeList({"relay", ""}) == "11:5:relay,0:,]");

  std::string out = "before ";
  Append(out, "a\0b"sv);
  CHECK(out == "before 3:a\0b,"s);
}

TEST_CASE("netstring: what is written is read back, at every number of digits", "[netstring]") {
  for (const std::size_t size :
       {0, 1, 9, 10, 99, 100, 999, 1000, 9999, 10000, 65535, 65536, 100000, 1048576, 10000000}) {
    for (const Type type : {Type::kData, Type::kList}) {
      CAPTURE(size);
      std::string payload(size, '\0');
      for (std::size_t i = 0; i < size; ++i) payload[i] = static_cast<char>(i * 7);
      const std::string frame = Encode(payload, type);
      CHECK(frame.size() <= size + kMaxOverhead);
      const Decoded decoded = Decode(frame, Limits{.data = 1 << 24, .list = 1 << 24});
      REQUIRE(decoded.status == Status::kFrame);
      CHECK(decoded.canonical);
      CHECK(decoded.type == type);
      CHECK(decoded.consumed == frame.size());
      CHECK((decoded.payload == payload));
    }
  }
}

TEST_CASE("netstring: a list is a sequence of plain netstrings", "[netstring]") {
  std::vector<std::string_view> items{"left from before"};

  SECTION("good ones") {
    CHECK(DecodeList("", items));
    CHECK(items.empty());
    const std::string_view payload = "7:unicast,0:,06:tag-42,3:5:],";
    REQUIRE(DecodeList(payload, items));
    CHECK(items == std::vector<std::string_view>{"unicast", "", "tag-42", "5:]"});
    for (const std::string_view item : items) CHECK(Inside(item, payload));
  }
  SECTION("bad ones keep what stood before the fault") {
    for (const std::string_view rest :
         {" "sv, "\n"sv, " 1:x,"sv, "x"sv, "5:hell,"sv, "5:hello"sv, "5:hello]"sv, "5"sv, "5:"sv,
          ":,"sv, "0:]"sv, "4294967296:,"sv, "4294967295:,"sv, "-1:,"sv, ","sv}) {
      CAPTURE(rest);
      const std::string payload = std::string("5:relay,").append(rest);
      CHECK_FALSE(DecodeList(payload, items));
      CHECK(items == std::vector<std::string_view>{"relay"});
      CHECK_FALSE(DecodeList(rest, items));
      CHECK(items.empty());
    }
  }
  SECTION("as many items as there is room for") {
    std::string payload;
    for (int i = 0; i < 10000; ++i) payload += "0:,";
    REQUIRE(DecodeList(payload, items));
    CHECK(items.size() == 10000);
  }
}

TEST_CASE("netstring: what cannot be appended leaves nothing behind", "[netstring]") {
  std::string out = "before";
  const std::string_view huge("", out.max_size());
  CHECK_THROWS_AS(Append(out, huge), std::length_error);
  CHECK(out == "before");
}
