// FrameReader: the same frames and the same error, however a stream is cut into reads.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "codec/framing.h"
#include "support/catch.h"

namespace {

using namespace std::string_literals;
using namespace std::string_view_literals;
using evrelay::FrameReader;
using evrelay::netstring::Decode;
using evrelay::netstring::Limits;
using evrelay::netstring::Type;
using Kind = FrameReader::Kind;

constexpr Limits kLimits{.data = 16, .list = 24};
constexpr Limits kDataOnly{.data = 16};

// What a reader made of a stream: one line a frame, then the error or how the stream ended.
using Story = std::vector<std::string>;

enum class How { kNext, kNextRun };

void TellFrame(Story& story, Type type, std::string_view payload) {
  story.push_back((type == Type::kData ? "data " : "list ") + std::string(payload));
}

void TellRun(Story& story, const FrameReader::Item& run) {
  std::string_view wire = run.wire;
  std::size_t payload_bytes = 0;
  for (std::uint32_t i = 0; i < run.frames; ++i) {
    const auto frame = Decode(wire, kLimits);
    REQUIRE(frame.status == evrelay::netstring::Status::kFrame);
    REQUIRE(frame.canonical);
    REQUIRE(frame.type == Type::kData);
    REQUIRE_FALSE(frame.payload.empty());
    // Nothing stands before or between the frames: the run is what subscribers get.
    REQUIRE(frame.payload.size() + 3 + (frame.payload.size() > 9 ? 1 : 0) == frame.consumed);
    TellFrame(story, frame.type, frame.payload);
    payload_bytes += frame.payload.size();
    wire.remove_prefix(frame.consumed);
  }
  CHECK(wire.empty());
  CHECK(payload_bytes == run.payload_bytes);
}

// Reads `chunks` until the first error or the end. Each chunk's bytes are gone after its read.
Story Read(const std::vector<std::string_view>& chunks, How how, const Limits& limits = kLimits) {
  FrameReader reader;
  Story story;
  for (const std::string_view chunk : chunks) {
    std::string bytes(chunk);
    std::string_view left = bytes;
    for (;;) {
      const auto item =
          how == How::kNext ? reader.Next(left, limits) : reader.NextRun(left, limits);
      if (item.kind == Kind::kMore) break;
      if (item.kind == Kind::kError) {
        story.push_back("error " + std::string(Name(item.error)));
        return story;
      }
      if (item.kind == Kind::kRun) {
        REQUIRE(how == How::kNextRun);
        REQUIRE(item.frames > 0);
        TellRun(story, item);
      } else {
        TellFrame(story, item.type, item.payload);
      }
    }
    CHECK(left.empty());
    bytes.assign(bytes.size(), '#');
  }
  story.push_back("end " + std::string(Name(reader.Finish())));
  return story;
}

struct Stream {
  std::string_view bytes;
  Story story;
};

const std::vector<Stream>& Streams() {
  static const std::vector<Stream> streams{
      {"", {"end none"}},
      {" \r\n\t ", {"end none"}},
      {"5:hello,", {"data hello", "end none"}},
      {"5:hello,5:world,", {"data hello", "data world", "end none"}},
      {"15:hello,6:ab,cdef,", {"data hello,6:ab,cdef", "end none"}},
      {"5:hello,\r\n  5:world,\n", {"data hello", "data world", "end none"}},
      {"0:,", {"data ", "end none"}},
      {"0:,1:a,0:,0:,1:b,", {"data ", "data a", "data ", "data ", "data b", "end none"}},
      {"1:a,01:b,1:c,", {"data a", "data b", "data c", "end none"}},
      {"1:a,12:5:relay,1:x,]1:b,", {"data a", "list 5:relay,1:x,", "data b", "end none"}},
      {"7:4:ping,]7:4:ping,]", {"list 4:ping,", "list 4:ping,", "end none"}},
      {"0:]2:\0\n,"sv, {"list ", "data \0\n"s, "end none"}},
      {"16:0123456789abcdef,1:x,", {"data 0123456789abcdef", "data x", "end none"}},
      {"18:0123456789abcdefgh]", {"list 0123456789abcdefgh", "end none"}},
      {"00000000000000000000000000000001:x,2:yz,", {"data x", "data yz", "end none"}},
      {"5:hello,5", {"data hello", "end truncated"}},
      {"5:hello,5:", {"data hello", "end truncated"}},
      {"5:hello,5:worl", {"data hello", "end truncated"}},
      {"5:hello,5:world", {"data hello", "end truncated"}},
      {"5:hello,x5:world,", {"data hello", "error bad-size"}},
      {"5:hello,5:worldx1:a,", {"data hello", "error bad-type"}},
      {"5:hello,25:", {"data hello", "error too-big"}},
      {"17:0123456789abcdefg,1:a,", {"error too-big"}},
      {"1:a,17:0123456789abcdefg,", {"data a", "error too-big"}},
      {"1:a, -1:b,", {"data a", "error bad-size"}},
      {"1:a,4294967296:b,", {"data a", "error bad-size"}},
      {"000000000000000000000000000000001:x,", {"error bad-size"}},
      {"1:a,\n,", {"data a", "error bad-size"}},
  };
  return streams;
}

}  // namespace

TEST_CASE("framing: whole streams", "[framing]") {
  for (const Stream& stream : Streams()) {
    CAPTURE(stream.bytes);
    CHECK(Read({stream.bytes}, How::kNext) == stream.story);
    CHECK(Read({stream.bytes}, How::kNextRun) == stream.story);
  }
}

TEST_CASE("framing: every cut into two and three reads gives the same", "[framing]") {
  for (const Stream& stream : Streams()) {
    const std::string_view bytes = stream.bytes;
    for (std::size_t i = 0; i <= bytes.size(); ++i) {
      for (std::size_t k = i; k <= bytes.size(); ++k) {
        const std::vector<std::string_view> chunks{bytes.substr(0, i), bytes.substr(i, k - i),
                                                   bytes.substr(k)};
        CAPTURE(chunks);
        REQUIRE(Read(chunks, How::kNext) == stream.story);
        REQUIRE(Read(chunks, How::kNextRun) == stream.story);
      }
    }
  }
}

TEST_CASE("framing: byte by byte gives the same", "[framing]") {
  for (const Stream& stream : Streams()) {
    CAPTURE(stream.bytes);
    std::vector<std::string_view> chunks;
    for (std::size_t i = 0; i < stream.bytes.size(); ++i) {
      chunks.push_back(stream.bytes.substr(i, 1));
    }
    CHECK(Read(chunks, How::kNext) == stream.story);
    CHECK(Read(chunks, How::kNextRun) == stream.story);
  }
}

TEST_CASE("framing: an error is told in the read that shows it", "[framing]") {
  FrameReader reader;
  for (const std::string_view part : {"2"sv, "5"sv}) {
    std::string_view chunk = part;
    CHECK(reader.Next(chunk, kLimits).kind == Kind::kMore);
  }
  std::string_view colon = ":";
  const auto item = reader.Next(colon, kLimits);
  CHECK(item.kind == Kind::kError);
  CHECK(item.error == evrelay::netstring::Error::kTooBig);
}

TEST_CASE("framing: a list where only data is accepted is bad-type", "[framing]") {
  CHECK(Read({"1:a,7:4:ping,]"}, How::kNext, kDataOnly) == Story{"data a", "error bad-type"});
  CHECK(Read({"1:a,7:4:ping", ",]"}, How::kNext, kDataOnly) == Story{"data a", "error bad-type"});
}

TEST_CASE("framing: frames in one read are views of it, nothing is copied", "[framing]") {
  const std::string bytes = "1:a,5:hello,";
  std::string_view chunk = bytes;
  FrameReader reader;
  CHECK(reader.Next(chunk, kLimits).payload.data() == bytes.data() + 2);
  CHECK(reader.Next(chunk, kLimits).payload.data() == bytes.data() + 6);
  CHECK(reader.Next(chunk, kLimits).kind == Kind::kMore);
}

TEST_CASE("framing: a run ends before what subscribers do not get as it stands", "[framing]") {
  for (const std::string_view next :
       {"0:,"sv, "01:x,"sv, " 1:x,"sv, "0:]"sv, "x"sv, "1:x"sv, ""sv}) {
    CAPTURE(next);
    const std::string bytes = std::string("1:a,2:bc,").append(next);
    std::string_view chunk = bytes;
    FrameReader reader;
    const auto run = reader.NextRun(chunk, kLimits);
    REQUIRE(run.kind == Kind::kRun);
    CHECK(run.wire == "1:a,2:bc,");
    CHECK(run.wire.data() == bytes.data());
    CHECK(run.frames == 2);
    CHECK(run.payload_bytes == 3);
    CHECK(chunk == next);
    CHECK(reader.NextRun(chunk, kLimits).kind != Kind::kRun);
  }
}

TEST_CASE("framing: runs go on behind what interrupted them", "[framing]") {
  const std::string bytes = "1:a,0:,1:b,1:c,";
  std::string_view chunk = bytes;
  FrameReader reader;
  CHECK(reader.NextRun(chunk, kLimits).wire == "1:a,");
  CHECK(reader.NextRun(chunk, kLimits).kind == Kind::kFrame);
  CHECK(reader.NextRun(chunk, kLimits).wire == "1:b,1:c,");
  CHECK(reader.NextRun(chunk, kLimits).kind == Kind::kMore);
}

TEST_CASE("framing: runs begin behind a frame that came in two reads", "[framing]") {
  FrameReader reader;
  std::string_view first = "1:a,5:he";
  CHECK(reader.NextRun(first, kLimits).wire == "1:a,");
  CHECK(reader.NextRun(first, kLimits).kind == Kind::kMore);
  std::string_view second = "llo,1:b,";
  const auto item = reader.NextRun(second, kLimits);
  CHECK(item.kind == Kind::kFrame);
  CHECK(item.payload == "hello");
  CHECK(Name(reader.Finish()) == "none");
  CHECK(reader.NextRun(second, kLimits).wire == "1:b,");
  CHECK(reader.NextRun(second, kLimits).kind == Kind::kMore);
  CHECK(Name(reader.Finish()) == "none");
}

TEST_CASE("framing: discard drops what has been read and starts afresh", "[framing]") {
  FrameReader reader;

  SECTION("the fault and all behind it in the same read") {
    std::string_view chunk = "1:a,x 5:hello,";
    CHECK(reader.Next(chunk, kLimits).payload == "a");
    CHECK(reader.Next(chunk, kLimits).kind == Kind::kError);
    CHECK(reader.Discard(chunk) == 10);
    CHECK(chunk.empty());
  }
  SECTION("and what had come of the frame before") {
    std::string_view first = "5:hel";
    CHECK(reader.Next(first, kLimits).kind == Kind::kMore);
    std::string_view second = "loX1:a,";
    CHECK(reader.Next(second, kLimits).kind == Kind::kError);
    CHECK(reader.Discard(second) == 12);
    CHECK(second.empty());
  }
  SECTION("200 times in a row") {
    for (int i = 0; i < 200; ++i) {
      std::string_view chunk = i % 2 == 0 ? "abc" : "5:hello;";
      CHECK(reader.Next(chunk, kLimits).kind == Kind::kError);
      CHECK(reader.Discard(chunk) == (i % 2 == 0 ? 3 : 8));
    }
  }
  CHECK(Name(reader.Finish()) == "none");
  std::string_view fresh = "5:hello,";
  CHECK(reader.Next(fresh, kLimits).payload == "hello");
  CHECK(reader.Next(fresh, kLimits).kind == Kind::kMore);
}

TEST_CASE("framing: large frames in many reads, one after the other", "[framing]") {
  const Limits limits{.data = 1 << 20};
  FrameReader reader;
  for (const std::size_t size : {std::size_t{1} << 20, std::size_t{100}, std::size_t{70'000}}) {
    const std::string payload(size, static_cast<char>('a' + size % 7));
    const std::string frame = evrelay::netstring::Encode(payload);
    std::size_t frames = 0;
    for (std::size_t at = 0; at < frame.size(); at += 4096) {
      std::string_view chunk = std::string_view(frame).substr(at, 4096);
      for (;;) {
        const auto item = reader.Next(chunk, limits);
        if (item.kind != Kind::kFrame) {
          REQUIRE(item.kind == Kind::kMore);
          break;
        }
        ++frames;
        CHECK((item.payload == payload));
      }
    }
    CHECK(frames == 1);
    CHECK(Name(reader.Finish()) == "none");
  }
}
