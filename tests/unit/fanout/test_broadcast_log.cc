#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "evrelay/netstring.h"
#include "fanout/broadcast_log.h"
#include "support/catch.h"

namespace evrelay {
namespace {

using Format = BroadcastLog::Format;
constexpr std::size_t kSize = Segment::kSize;

// All bytes from the reader's place to `until`.
std::string Read(const BroadcastLog& log, const Cursor& cursor, Position until) {
  iovec pieces[16];
  const std::size_t count = log.Gather(cursor, until, pieces, 16);
  std::string bytes;
  for (std::size_t i = 0; i < count; ++i) {
    CHECK(pieces[i].iov_len > 0);
    bytes.append(static_cast<const char*>(pieces[i].iov_base), pieces[i].iov_len);
  }
  return bytes;
}

std::string ReadAll(const BroadcastLog& log, const Cursor& cursor) {
  return Read(log, cursor, log.end().position);
}

// A payload whose frame takes `wire_size` bytes.
std::string PayloadFor(std::size_t wire_size, char fill = 'x') {
  std::size_t size = wire_size;
  while (std::to_string(size).size() + size + 2 > wire_size) --size;
  std::string payload(size, fill);
  REQUIRE(netstring::Encode(payload).size() == wire_size);
  return payload;
}

// A log and, beside it, what it ought to hold.
struct Recorded {
  BroadcastLog log;
  Format format;
  std::string bytes;
  std::vector<Position> starts;

  explicit Recorded(Format f) : log(f), format(f) {}

  void Event(std::string_view payload) {
    starts.push_back(bytes.size());
    bytes += format == Format::kRaw ? std::string(payload) : netstring::Encode(payload);
    log.AppendEvent(payload);
  }
  void Run(const std::vector<std::string>& payloads) {
    std::string wire;
    for (const std::string& payload : payloads) {
      starts.push_back(bytes.size() + wire.size());
      netstring::Append(wire, payload);
    }
    bytes += wire;
    log.AppendRun(wire, static_cast<std::uint32_t>(payloads.size()));
  }
  // Ends `left` bytes before the end of a segment that begins where this log has ended.
  void FillAllBut(std::size_t left) {
    Event(format == Format::kRaw ? std::string(kSize - left, 'f') : PayloadFor(kSize - left, 'f'));
  }

  Boundary Expected(Position position) const {
    const auto at = std::lower_bound(starts.begin(), starts.end(), position);
    const auto ordinal = static_cast<std::uint64_t>(at - starts.begin());
    return {at == starts.end() ? bytes.size() : *at, ordinal};
  }
  void CheckBoundaries(Position from, Position until) const {
    for (Position position = from; position <= until; ++position) {
      const Boundary found = log.FirstFrameFrom(position);
      if (found == Expected(position)) continue;
      INFO("position " << position << ": found " << found.position << ", " << found.ordinal);
      CHECK(found == Expected(position));
    }
  }
};

}  // namespace

TEST_CASE("broadcast log: empty") {
  const BroadcastLog log(Format::kNetstring);
  const Cursor cursor;
  CHECK(log.end() == Boundary{0, 0});
  CHECK(log.mark() == Boundary{0, 0});
  CHECK(log.oldest() == 0);
  CHECK(log.bytes() == 0);
  CHECK(log.segments() == 0);
  CHECK(log.free_segments() == 1);
  CHECK(log.FirstFrameFrom(0) == Boundary{0, 0});
  CHECK_FALSE(cursor.pinned());
  CHECK(log.PositionOf(cursor) == 0);
  CHECK(ReadAll(log, cursor).empty());
}

TEST_CASE("broadcast log: boundaries are equal in both numbers or not at all") {
  CHECK(Boundary{5, 1} == Boundary{5, 1});
  CHECK_FALSE(Boundary{5, 1} == Boundary{6, 1});
  CHECK_FALSE(Boundary{5, 1} == Boundary{5, 2});
}

TEST_CASE("broadcast log: netstring format holds frames") {
  BroadcastLog log(Format::kNetstring);
  const Cursor cursor;
  log.AppendEvent("hello");
  log.AppendRun("3:abc,1:x,", 2);
  log.AppendEvent(std::string_view("\0,:", 3));
  CHECK(ReadAll(log, cursor) == std::string("5:hello,3:abc,1:x,3:\0,:,", 24));
  CHECK(log.end() == Boundary{24, 4});
  CHECK(log.bytes() == 24);
  CHECK(log.segments() == 1);
}

TEST_CASE("broadcast log: raw format holds bare events") {
  BroadcastLog log(Format::kRaw);
  const Cursor cursor;
  log.AppendEvent("hello");
  log.AppendEvent("5:world,");
  CHECK(ReadAll(log, cursor) == "hello5:world,");
  CHECK(log.end() == Boundary{13, 2});
}

TEST_CASE("broadcast log: what was received into its room is not copied") {
  BroadcastLog log(Format::kNetstring);
  const Cursor cursor;
  log.AppendEvent("first");
  const std::string wire = "1:a,2:bb,";
  const std::span<char> room = log.Room(100);
  std::copy(wire.begin(), wire.end(), room.begin());
  log.AppendRun({room.data(), wire.size()}, 2);
  CHECK(ReadAll(log, cursor) == "5:first," + wire);
  CHECK(log.Room(1).data() == room.data() + wire.size());
  CHECK(log.segments() == 1);
}

TEST_CASE("broadcast log: what stands in its room moves to the front") {
  BroadcastLog log(GENERATE(Format::kNetstring, Format::kRaw));
  const Cursor cursor;
  const std::string wire = "007:overlap,2:ok,";
  const std::span<char> room = log.Room(100);
  std::copy(wire.begin(), wire.end(), room.begin());
  log.AppendEvent({room.data() + 4, 7});
  log.AppendEvent({room.data() + 14, 2});
  CHECK((ReadAll(log, cursor) == "7:overlap,2:ok," || ReadAll(log, cursor) == "overlapok"));
}

TEST_CASE("broadcast log: frames that stand apart in its room move to the front") {
  BroadcastLog log(Format::kNetstring);
  const Cursor cursor;
  const std::string wire = "<<2:ab,><<2:cd,><<2:ef,>";
  const std::span<char> room = log.Room(100);
  std::copy(wire.begin(), wire.end(), room.begin());
  log.AppendRun({.first = {room.data() + 2, 5}, .payload_bytes = 2, .stride = 8, .count = 3});
  log.AppendRun("2:gh,", 1);
  CHECK(ReadAll(log, cursor) == "2:ab,2:cd,2:ef,2:gh,");
  CHECK(log.end() == Boundary{20, 4});
}

TEST_CASE("broadcast log: frames that stand apart, where a segment ends") {
  // Of ten frames of 5 bytes, whichever one is cut, wherever it is; or none.
  const auto left = GENERATE(range(std::size_t{1}, std::size_t{53}));
  CAPTURE(left);
  Recorded events(Format::kNetstring);
  const Cursor cursor;
  events.FillAllBut(left);
  std::string wire;
  for (char name = 'a'; name < 'k'; ++name) {
    wire += "<2:" + std::string(2, name) + ",";
    events.starts.push_back(events.bytes.size());
    events.bytes += "2:" + std::string(2, name) + ",";
  }
  events.log.AppendRun(
      {.first = std::string_view(wire).substr(1, 5), .payload_bytes = 2, .stride = 6, .count = 10});
  events.Event("after");
  CHECK((ReadAll(events.log, cursor) == events.bytes));
  CHECK(events.log.end().ordinal == 12);
  events.CheckBoundaries(kSize - left - 5, events.bytes.size());
}

TEST_CASE("broadcast log: room that the last segment has not begins the next one") {
  Recorded events(GENERATE(Format::kNetstring, Format::kRaw));
  BroadcastLog& log = events.log;
  const Cursor cursor;
  events.FillAllBut(100);
  CHECK(log.Room(100).size() == 100);
  CHECK(log.segments() == 1);
  CHECK(log.Room(101).size() == kSize);
  CHECK(log.segments() == 2);
  CHECK(log.Room(kSize).size() == kSize);
  CHECK(log.segments() == 2);
  CHECK(log.end().position == kSize - 100);
  CHECK((ReadAll(log, cursor) == events.bytes));

  // One who is behind, and one who is pinned where the log ends.
  Cursor behind;
  Cursor at_end;
  log.Pin(behind, 0);
  log.Pin(at_end, log.end().position);
  log.Mark();
  events.Event("a");
  events.Event("bb");
  CHECK((ReadAll(log, behind) == events.bytes));
  CHECK(ReadAll(log, at_end) == events.bytes.substr(kSize - 100));
  CHECK(ReadAll(log, cursor) == events.bytes.substr(kSize - 100));
  events.CheckBoundaries(kSize - 120, events.bytes.size());

  log.Unpin(behind);
  log.Unpin(at_end);
  log.Mark();
  CHECK(log.segments() == 0);
  CHECK(log.Room(1).size() == kSize);
}

TEST_CASE("broadcast log: Mark takes unpinned readers to the end and keeps nothing for them") {
  BroadcastLog log(Format::kNetstring);
  const Cursor cursor;
  log.AppendEvent("one");
  CHECK(log.mark() == Boundary{0, 0});
  CHECK(log.PositionOf(cursor) == 0);
  log.Mark();
  CHECK(log.mark() == Boundary{6, 1});
  CHECK(log.mark() == log.end());
  CHECK(log.PositionOf(cursor) == 6);
  CHECK(log.oldest() == 6);
  CHECK(log.bytes() == 0);
  CHECK(log.segments() == 0);
  CHECK(log.free_segments() == 1);

  log.AppendEvent("two");
  CHECK(ReadAll(log, cursor) == "3:two,");
  CHECK(log.end() == Boundary{12, 2});
  CHECK(log.free_segments() == 0);
}

TEST_CASE("broadcast log: Mark without new events is harmless") {
  BroadcastLog log(Format::kNetstring);
  log.Mark();
  CHECK(log.end() == Boundary{0, 0});
  log.AppendEvent("one");
  log.Mark();
  log.Mark();
  CHECK(log.mark() == Boundary{6, 1});
  CHECK(log.segments() == 0);
}

TEST_CASE("broadcast log: Trim in the middle of a turn keeps what has not been sent") {
  Recorded events(Format::kNetstring);
  BroadcastLog& log = events.log;
  const Cursor cursor;
  events.Event(std::string(3 * kSize, 'a'));
  log.Trim();
  CHECK(log.segments() == 4);
  CHECK(ReadAll(log, cursor) == events.bytes);
  log.Mark();
  CHECK(log.segments() == 0);
}

TEST_CASE("broadcast log: a pinned reader keeps its segment and those after it") {
  Recorded events(Format::kNetstring);
  BroadcastLog& log = events.log;
  Cursor behind;
  events.Event(std::string(kSize, 'a'));
  events.Event(std::string(kSize, 'b'));
  const Position second = kSize + 100;
  log.Pin(behind, second);
  CHECK(behind.pinned());
  CHECK(log.PositionOf(behind) == second);
  CHECK(log.segments() == 3);

  log.Mark();
  // The first segment is needed by nobody; the second holds the third.
  CHECK(log.segments() == 2);
  CHECK(log.oldest() == kSize);
  CHECK(log.bytes() == events.bytes.size() - kSize);
  CHECK(ReadAll(log, behind) == events.bytes.substr(second));

  events.Event("more");
  log.Mark();
  CHECK(ReadAll(log, behind) == events.bytes.substr(second));

  SECTION("it moves on") {
    log.Pin(behind, 2 * kSize);
    log.Trim();
    CHECK(log.segments() == 1);
    CHECK(ReadAll(log, behind) == events.bytes.substr(2 * kSize));
  }
  SECTION("it catches up") {
    log.Unpin(behind);
    CHECK_FALSE(behind.pinned());
    CHECK(log.PositionOf(behind) == log.mark().position);
    CHECK(log.segments() == 2);
    log.Trim();
    CHECK(log.segments() == 0);
  }
}

TEST_CASE("broadcast log: a destroyed cursor keeps nothing") {
  BroadcastLog log(Format::kNetstring);
  log.AppendEvent("one");
  auto cursor = std::make_unique<Cursor>();
  log.Pin(*cursor, 0);
  log.Mark();
  CHECK(log.segments() == 1);
  cursor.reset();
  log.Trim();
  CHECK(log.segments() == 0);
}

TEST_CASE("broadcast log: a segment with several readers stays until the last has left") {
  BroadcastLog log(Format::kNetstring);
  log.AppendEvent(std::string(kSize, 'a'));
  Cursor one;
  Cursor two;
  log.Pin(one, 0);
  log.Pin(two, 5);
  log.Mark();
  CHECK(log.segments() == 2);
  log.Pin(one, kSize + 1);
  log.Trim();
  CHECK(log.segments() == 2);
  log.Pin(two, kSize + 1);
  log.Trim();
  CHECK(log.segments() == 1);
  log.Unpin(one);
  log.Unpin(two);
  log.Trim();
  CHECK(log.segments() == 0);
}

TEST_CASE("broadcast log: a reader may be pinned at the very end") {
  Recorded events(GENERATE(Format::kNetstring, Format::kRaw));
  BroadcastLog& log = events.log;
  Cursor cursor;

  SECTION("of an empty log") {
    log.Pin(cursor, 0);
    CHECK(log.segments() == 1);
    CHECK(ReadAll(log, cursor).empty());
  }
  SECTION("of a segment with room") { events.Event("one"); }
  SECTION("of a full segment") { events.FillAllBut(0); }
  SECTION("when all before has been freed") {
    events.Event("one");
    log.Mark();
    REQUIRE(log.segments() == 0);
  }
  const Position place = log.end().position;
  log.Pin(cursor, place);
  log.Mark();
  CHECK(log.segments() == 1);
  CHECK(log.PositionOf(cursor) == place);
  CHECK(ReadAll(log, cursor).empty());

  events.Event("two");
  events.Event(std::string(kSize, 'a'));
  CHECK(ReadAll(log, cursor) == events.bytes.substr(place));
  events.CheckBoundaries(place, place + 20);
  log.Unpin(cursor);
  log.Mark();
  CHECK(log.segments() == 0);
}

TEST_CASE("broadcast log: free segments are kept for reuse, a bounded number, hot ones first") {
  BroadcastLog log(Format::kNetstring);
  const Cursor cursor;
  log.AppendEvent(std::string((BroadcastLog::kFreeSegments + 4) * kSize, 'a'));
  CHECK(log.segments() == BroadcastLog::kFreeSegments + 5);
  log.Mark();
  CHECK(log.segments() == 0);
  CHECK(log.free_segments() == BroadcastLog::kFreeSegments);

  const void* place = nullptr;
  for (int turn = 0; turn < 3; ++turn) {
    log.AppendEvent("event");
    CHECK(log.free_segments() == BroadcastLog::kFreeSegments - 1);
    iovec piece;
    REQUIRE(log.Gather(cursor, log.end().position, &piece, 1) == 1);
    if (turn > 0) CHECK(piece.iov_base == place);
    place = piece.iov_base;
    log.Mark();
  }
}

TEST_CASE("broadcast log: bytes never move") {
  BroadcastLog log(Format::kNetstring);
  const Cursor cursor;
  log.AppendEvent("first");
  iovec before;
  iovec after;
  REQUIRE(log.Gather(cursor, 8, &before, 1) == 1);
  log.AppendEvent(std::string(2 * kSize, 'a'));
  REQUIRE(log.Gather(cursor, 8, &after, 1) == 1);
  CHECK(before.iov_base == after.iov_base);
  CHECK(std::string_view(static_cast<char*>(after.iov_base), after.iov_len) == "5:first,");
}

TEST_CASE("broadcast log: Gather gives at most `max` pieces and stops at `until`") {
  Recorded events(Format::kNetstring);
  const BroadcastLog& log = events.log;
  const Cursor cursor;
  events.Event(std::string(2 * kSize + 1000, 'a'));
  iovec pieces[4];
  CHECK(log.Gather(cursor, log.end().position, pieces, 0) == 0);
  REQUIRE(log.Gather(cursor, log.end().position, pieces, 2) == 2);
  CHECK(pieces[0].iov_len == kSize);
  CHECK(pieces[1].iov_len == kSize);
  CHECK(log.Gather(cursor, log.end().position, pieces, 4) == 3);
  CHECK(log.Gather(cursor, 0, pieces, 4) == 0);
  REQUIRE(log.Gather(cursor, kSize, pieces, 4) == 1);
  CHECK(pieces[0].iov_len == kSize);
  REQUIRE(log.Gather(cursor, kSize + 1, pieces, 4) == 2);
  CHECK(pieces[1].iov_len == 1);
  CHECK(Read(log, cursor, kSize + 3) == events.bytes.substr(0, kSize + 3));
}

TEST_CASE("broadcast log: Copy takes bytes from several segments") {
  Recorded events(Format::kNetstring);
  events.Event(std::string(kSize, 'a'));
  events.Event(std::string(kSize, 'b'));
  events.Event("c");
  std::string out = "kept:";
  events.log.Copy(10, 13, out);
  CHECK(out == "kept:" + events.bytes.substr(10, 3));
  out.clear();
  events.log.Copy(kSize - 1, events.bytes.size(), out);
  CHECK(out == events.bytes.substr(kSize - 1));
  out.clear();
  events.log.Copy(2 * kSize + 1, 2 * kSize + 5, out);
  CHECK(out == events.bytes.substr(2 * kSize + 1, 4));
  out.clear();
  events.log.Copy(5, 5, out);
  CHECK(out.empty());
}

TEST_CASE("broadcast log: those who are stuck in one frame share its end") {
  Recorded events(Format::kNetstring);
  events.Event(std::string(100, 'a'));
  const Position end = events.bytes.size();
  {
    const BroadcastLog::Tail first = events.log.TailFrom(40, end);
    CHECK(first.frame.wire().substr(first.offset) == events.bytes.substr(40));
    const BroadcastLog::Tail later = events.log.TailFrom(60, end);
    CHECK(later.frame.wire().data() == first.frame.wire().data());
    CHECK(later.frame.wire().substr(later.offset) == events.bytes.substr(60));
    const BroadcastLog::Tail earlier = events.log.TailFrom(20, end);
    CHECK(earlier.frame.wire().substr(earlier.offset) == events.bytes.substr(20));
    events.Event("b");
    const BroadcastLog::Tail other = events.log.TailFrom(end + 1, end + 4);
    CHECK(other.frame.wire().substr(other.offset) == ":b,");
  }
  // Nobody holds one any more.
  const BroadcastLog::Tail again = events.log.TailFrom(90, end);
  CHECK(again.offset == 0);
}

TEST_CASE("broadcast log: the first frame from every position of a small log") {
  Recorded events(GENERATE(Format::kNetstring, Format::kRaw));
  for (const std::size_t size : {5u, 1u, 12u, 1u, 100u, 3u}) {
    events.Event(std::string(size, '7'));
  }
  events.CheckBoundaries(0, events.bytes.size() + 3);
  // What stands before the mark of the same segment can still be asked for.
  Cursor pinned;
  events.log.Pin(pinned, 3);
  events.log.Mark();
  events.Event("after");
  events.CheckBoundaries(0, events.bytes.size());
}

TEST_CASE("broadcast log: frames whose header or body the end of a segment cuts") {
  // A header of 3 bytes, a body and a comma, begun 0 to 20 bytes before the end of a segment.
  const std::size_t left = GENERATE(range(0, 20));
  CAPTURE(left);
  const std::vector<std::string> payloads{std::string(11, '1'), "2", std::string(12, '3'), "4"};

  SECTION("appended one by one") {
    Recorded events(GENERATE(Format::kNetstring, Format::kRaw));
    const Cursor cursor;
    events.FillAllBut(left);
    for (const std::string& payload : payloads) events.Event(payload);
    events.CheckBoundaries(kSize - 40, events.bytes.size());
    CHECK((ReadAll(events.log, cursor) == events.bytes));
  }
  SECTION("appended as a run") {
    Recorded events(Format::kNetstring);
    const Cursor cursor;
    events.FillAllBut(left);
    events.Run(payloads);
    events.Run({"5"});
    events.CheckBoundaries(kSize - 40, events.bytes.size());
    CHECK((ReadAll(events.log, cursor) == events.bytes));
  }
}

TEST_CASE("broadcast log: segments in which no frame starts") {
  SECTION("one event") {
    Recorded events(GENERATE(Format::kNetstring, Format::kRaw));
    events.Event("before");
    events.Event(std::string(3 * kSize, 'a'));
    events.CheckBoundaries(0, 30);
    events.CheckBoundaries(2 * kSize - 2, 2 * kSize + 2);
    events.Event("after");
    events.Event("last");
    events.CheckBoundaries(2 * kSize - 2, 2 * kSize + 2);
    events.CheckBoundaries(events.bytes.size() - 40, events.bytes.size());
  }
  SECTION("a run") {
    Recorded events(Format::kNetstring);
    events.Run({"before", std::string(3 * kSize, 'a'), "after"});
    events.Run({"last"});
    events.CheckBoundaries(0, 30);
    events.CheckBoundaries(2 * kSize - 2, 2 * kSize + 2);
    events.CheckBoundaries(events.bytes.size() - 40, events.bytes.size());
  }
}

TEST_CASE("broadcast log: a run that ends with its segment") {
  Recorded events(Format::kNetstring);
  const Cursor cursor;
  events.FillAllBut(8);
  events.Run({"a", "b"});
  REQUIRE(events.bytes.size() == kSize);
  CHECK(events.log.segments() == 1);
  events.Run({"c", "d"});
  CHECK(events.log.segments() == 2);
  events.CheckBoundaries(kSize - 20, events.bytes.size());
  CHECK((ReadAll(events.log, cursor) == events.bytes));
}

TEST_CASE("broadcast log: a run over many segments") {
  Recorded events(Format::kNetstring);
  const Cursor cursor;
  std::vector<std::string> payloads;
  for (int round = 0; round < 4; ++round) {
    for (std::size_t size = 1; size < 600'000; size += 1 + size / 2) {
      payloads.emplace_back(size, static_cast<char>('a' + size % 26));
    }
  }
  events.Run(payloads);
  CHECK(events.log.end() == Boundary{events.bytes.size(), payloads.size()});
  CHECK((ReadAll(events.log, cursor) == events.bytes));
  for (Position edge = kSize; edge < events.bytes.size(); edge += kSize) {
    events.CheckBoundaries(edge - 1, edge + 1);
  }
  for (const Position start : events.starts) {
    events.CheckBoundaries(start == 0 ? 0 : start - 1, start + 1);
  }
}

TEST_CASE("broadcast log: ordinals go on after segments have been freed and used again") {
  Recorded events(GENERATE(Format::kNetstring, Format::kRaw));
  BroadcastLog& log = events.log;
  for (int i = 0; i < 3; ++i) {
    events.Event(std::string(kSize, 'a'));
    events.Event("bb");
    log.Mark();
  }
  Cursor cursor;
  const Position place = log.end().position;
  log.Pin(cursor, place);
  events.Event("ccc");
  events.Event("dddd");
  log.Mark();
  CHECK(log.end().ordinal == 8);
  events.CheckBoundaries(place, log.end().position);
  // Before the oldest byte: the oldest frame there is.
  CHECK(log.FirstFrameFrom(0) == log.FirstFrameFrom(log.oldest()));
}

}  // namespace evrelay
