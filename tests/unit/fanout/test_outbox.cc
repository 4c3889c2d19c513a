#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "evrelay/netstring.h"
#include "fanout/outbox.h"
#include "support/catch.h"

namespace evrelay {
namespace {

constexpr std::size_t kSize = Segment::kSize;

// The bytes that the next send would carry.
std::string Next(const Outbox& outbox, const BroadcastLog& log, std::size_t max_pieces = 8) {
  iovec pieces[8];
  const std::size_t count = outbox.Gather(log, pieces, max_pieces);
  REQUIRE(count <= max_pieces);
  std::string bytes;
  for (std::size_t i = 0; i < count; ++i) {
    CHECK(pieces[i].iov_len > 0);
    bytes.append(static_cast<const char*>(pieces[i].iov_base), pieces[i].iov_len);
  }
  return bytes;
}

// Sends until nothing is due, at most `at_most` bytes at once; the bytes that went.
std::string SendAll(Outbox& outbox, BroadcastLog& log, std::uint64_t& written,
                    std::size_t at_most = SIZE_MAX) {
  std::string sent;
  for (std::string next = Next(outbox, log); !next.empty(); next = Next(outbox, log)) {
    next.resize(std::min(next.size(), at_most));
    sent += next;
    const Outbox::Consumed result = outbox.Consume(log, next.size());
    written += result.written;
    if (result.drained) break;
  }
  return sent;
}

Frame Direct(std::string_view payload) { return Frame(netstring::Encode(payload)); }

struct OutboxOnLog {
  BroadcastLog log{BroadcastLog::Format::kNetstring};
  Outbox outbox;
  std::uint64_t written = 0;

  OutboxOnLog() { outbox.Start(log); }

  // A flush in which the socket takes `bytes` and no more.
  Outbox::Consumed Flush(std::size_t bytes) {
    REQUIRE(bytes <= Next(outbox, log).size());
    const Outbox::Consumed result = outbox.Consume(log, bytes);
    written += result.written;
    log.Mark();
    return result;
  }
  std::string FlushAll(std::size_t at_most = SIZE_MAX) {
    std::string sent = SendAll(outbox, log, written, at_most);
    log.Mark();
    return sent;
  }
};

using Fixture = OutboxOnLog;

}  // namespace

TEST_CASE_METHOD(Fixture, "outbox: one that is sent everything holds nothing") {
  CHECK(Next(outbox, log).empty());
  CHECK(outbox.Lag(log) == 0);
  CHECK(outbox.Queued(log) == 0);

  for (std::uint64_t turn = 1; turn <= 2; ++turn) {
    log.AppendEvent("hello");
    log.AppendRun("1:a,2:bb,", 2);
    CHECK(outbox.Lag(log) == 17);
    CHECK(outbox.Queued(log) == 3);
    CHECK(Next(outbox, log) == "5:hello,1:a,2:bb,");
    const Outbox::Consumed result = Flush(17);
    CHECK(result.written == 3);
    CHECK(result.drained);
    CHECK(outbox.Lag(log) == 0);
    CHECK(outbox.Queued(log) == 0);
    CHECK(outbox.direct_bytes() == 0);
    CHECK(log.segments() == 0);
    CHECK(written == 3 * turn);
  }
}

TEST_CASE_METHOD(Fixture, "outbox: gets what is appended after its start, not before") {
  Outbox late;
  Outbox later;
  log.AppendEvent("early");
  late.Start(log);
  log.AppendEvent("after");
  CHECK(Next(late, log) == "5:after,");
  CHECK(late.Queued(log) == 1);
  CHECK(late.Lag(log) == 8);
  const Outbox::Consumed result = late.Consume(log, 8);
  CHECK(result.written == 1);
  CHECK(result.drained);
  CHECK(Flush(16).drained);

  later.Start(log);
  CHECK(Next(later, log).empty());
  log.AppendEvent("next");
  CHECK(Next(later, log) == "4:next,");
  CHECK(Next(late, log) == "4:next,");
}

TEST_CASE_METHOD(Fixture, "outbox: started in mid-turn with nothing after holds nothing") {
  log.AppendEvent("early");
  Outbox late;
  late.Start(log);
  CHECK(Next(late, log).empty());
  CHECK(late.Lag(log) == 0);
  CHECK(late.Queued(log) == 0);
  CHECK(FlushAll() == "5:early,");
  CHECK(late.Lag(log) == 0);
  log.AppendEvent("next");
  std::uint64_t late_written = 0;
  CHECK(SendAll(late, log, late_written) == "4:next,");
  CHECK(late_written == 1);
}

TEST_CASE_METHOD(Fixture, "outbox: after a short write it goes on where it stopped") {
  log.AppendEvent("one");
  log.AppendEvent("two");
  const Outbox::Consumed result = Flush(8);
  CHECK_FALSE(result.drained);
  CHECK(outbox.Lag(log) == 4);
  CHECK(written + outbox.Queued(log) == 2);

  log.AppendEvent("three");
  CHECK(Next(outbox, log) == "two,5:three,");
  CHECK(outbox.Lag(log) == 12);
  CHECK(written + outbox.Queued(log) == 3);
  CHECK(FlushAll() == "two,5:three,");
  CHECK(written == 3);
  CHECK(outbox.Queued(log) == 0);
  CHECK(log.segments() == 0);
}

TEST_CASE_METHOD(Fixture, "outbox: a socket that takes nothing keeps the place") {
  log.AppendEvent("one");
  CHECK_FALSE(Flush(0).drained);
  log.AppendEvent("two");
  CHECK_FALSE(Flush(0).drained);
  CHECK(outbox.Lag(log) == 12);
  CHECK(outbox.Queued(log) == 2);
  CHECK(FlushAll() == "3:one,3:two,");
  CHECK(written == 2);
}

TEST_CASE_METHOD(Fixture, "outbox: one byte at a time") {
  log.AppendEvent("one");
  outbox.Push(log, Direct("d1"));
  outbox.Push(log, Direct("d2"));
  log.AppendEvent("two");
  outbox.Push(log, Direct("d3"));
  CHECK(FlushAll(1) == "3:one,2:d1,2:d2,3:two,2:d3,");
  CHECK(written == 5);
  CHECK(outbox.Queued(log) == 0);
}

TEST_CASE_METHOD(Fixture, "outbox: direct frames leave where they fell due") {
  outbox.Push(log, Direct("d1"));
  log.AppendEvent("one");
  outbox.Push(log, Direct("d2"));
  log.AppendEvent("two");
  CHECK(outbox.Queued(log) == 4);
  CHECK(outbox.direct_bytes() == 10 + 2 * DirectQueue::kFrameCost);
  CHECK(outbox.Lag(log) == 22 + 2 * DirectQueue::kFrameCost);
  CHECK(FlushAll() == "2:d1,3:one,2:d2,3:two,");
  CHECK(written == 4);
  CHECK(outbox.Lag(log) == 0);
}

TEST_CASE_METHOD(Fixture, "outbox: direct frames alone") {
  outbox.Push(log, Direct("d1"));
  outbox.Push(log, Direct("d2"));
  CHECK(Next(outbox, log, 1) == "2:d1,");
  const Outbox::Consumed half = Flush(7);
  CHECK_FALSE(half.drained);
  CHECK(half.written == 1);
  CHECK(outbox.Lag(log) == 3 + DirectQueue::kFrameCost);
  CHECK(outbox.Queued(log) == 1);
  const Outbox::Consumed rest = Flush(3);
  CHECK(rest.drained);
  CHECK(rest.written == 1);
  CHECK(log.segments() == 0);
}

TEST_CASE_METHOD(Fixture, "outbox: all log bytes sent, a direct frame still due") {
  log.AppendEvent("one");
  outbox.Push(log, Direct("d1"));
  CHECK(Next(outbox, log) == "3:one,");
  const Outbox::Consumed result = Flush(6);
  CHECK(result.written == 1);
  CHECK_FALSE(result.drained);
  CHECK(outbox.Queued(log) == 1);
  CHECK(outbox.Lag(log) == 5 + DirectQueue::kFrameCost);
  log.AppendEvent("two");
  CHECK(FlushAll() == "2:d1,3:two,");
  CHECK(written == 3);
}

TEST_CASE_METHOD(Fixture, "outbox: Gather gives no more pieces than asked") {
  outbox.Push(log, Direct("d1"));
  outbox.Push(log, Direct("d2"));
  log.AppendEvent("one");
  CHECK(Next(outbox, log, 1) == "2:d1,");
  CHECK(Next(outbox, log, 2) == "2:d1,2:d2,");
  CHECK(Next(outbox, log, 3) == "2:d1,2:d2,3:one,");
  const Outbox::Consumed result = outbox.Consume(log, 10);
  CHECK(result.written == 2);
  CHECK_FALSE(result.drained);
  CHECK(Next(outbox, log, 1) == "3:one,");
}

TEST_CASE_METHOD(Fixture, "outbox: nothing after Stop") {
  log.AppendEvent("one");
  outbox.Stop(log);
  CHECK(outbox.Beyond(log) == 0);
  log.AppendEvent("two");
  CHECK(outbox.Queued(log) == 1);
  CHECK(outbox.Lag(log) == 6);
  CHECK(outbox.Beyond(log) == 6);

  SECTION("sent at once") {
    const Outbox::Consumed result = outbox.Consume(log, Next(outbox, log).size());
    CHECK(result.written == 1);
    CHECK(result.drained);
  }
  SECTION("sent over several turns") {
    CHECK_FALSE(Flush(2).drained);
    log.AppendEvent("three");
    outbox.Stop(log);  // once is enough
    CHECK(outbox.Queued(log) == 1);
    CHECK(outbox.Lag(log) == 4);
    CHECK(outbox.Beyond(log) == 14);
    CHECK(FlushAll() == "one,");
    CHECK(written == 1);
  }
  SECTION("given up") {
    CHECK_FALSE(Flush(2).drained);
    log.AppendEvent("three");
    const Outbox::Abandoned result = outbox.Abandon(log);
    CHECK(result.written == 0);
    CHECK(result.dropped == 1);
  }
}

TEST_CASE_METHOD(Fixture, "outbox: direct frames due before Stop are sent") {
  outbox.Push(log, Direct("d1"));
  log.AppendEvent("one");
  outbox.Push(log, Direct("d2"));
  outbox.Stop(log);
  log.AppendEvent("two");
  CHECK(SendAll(outbox, log, written) == "2:d1,3:one,2:d2,");
  CHECK(written == 3);
}

TEST_CASE_METHOD(Fixture, "outbox: SkipTo from a frame's start") {
  for (const char* event : {"one", "two", "three", "four"}) log.AppendEvent(event);
  CHECK_FALSE(Flush(6).drained);  // "3:one,"
  const Boundary target = log.FirstFrameFrom(13);
  REQUIRE(target == Boundary{20, 3});

  const Outbox::Skipped result = outbox.SkipTo(log, target);
  CHECK(result.written == 1);
  CHECK(result.skipped == 2);
  written += result.written;
  CHECK(written + outbox.Queued(log) + result.skipped == 4);
  CHECK(outbox.Lag(log) == 7);
  CHECK(FlushAll() == "4:four,");
  CHECK(written == 2);
}

TEST_CASE_METHOD(Fixture, "outbox: SkipTo ends the frame that has been begun") {
  for (const char* event : {"one", "two", "three", "four"}) log.AppendEvent(event);
  CHECK_FALSE(Flush(8).drained);  // "3:one,3:"
  const Outbox::Skipped result = outbox.SkipTo(log, Boundary{20, 3});
  CHECK(result.written == 1);
  CHECK(result.skipped == 1);
  written += result.written;
  CHECK(outbox.Queued(log) == 2);
  CHECK(outbox.Lag(log) == 7);  // a tail is not counted

  SECTION("in one send") {
    CHECK(FlushAll() == "two,4:four,");
    CHECK(written == 3);
  }
  SECTION("in several, with another skip between them") {
    CHECK_FALSE(Flush(2).drained);  // "tw"
    log.AppendEvent("five");
    const Outbox::Skipped again = outbox.SkipTo(log, log.end());
    CHECK(again.written == 0);
    CHECK(again.skipped == 2);
    CHECK(outbox.Queued(log) == 1);
    log.AppendEvent("six");
    CHECK(FlushAll() == "o,3:six,");
    CHECK(written == 3);
  }
  SECTION("given up") {
    const Outbox::Abandoned end = outbox.Abandon(log);
    CHECK(end.written == 0);
    CHECK(end.dropped == 2);
  }
}

TEST_CASE_METHOD(Fixture, "outbox: SkipTo ends the frame whose first byte is on its way") {
  for (const char* event : {"one", "two", "three", "four"}) log.AppendEvent(event);
  CHECK_FALSE(Flush(6).drained);  // "3:one,"

  SECTION("a frame of the log") {
    const Outbox::Skipped result = outbox.SkipTo(log, Boundary{20, 3}, true);
    CHECK(result.written == 1);
    CHECK(result.skipped == 1);
    written += result.written;
    CHECK(FlushAll(1) == "3:two,4:four,");
    CHECK(written == 3);
  }
  SECTION("a direct frame, which stays anyway") {
    CHECK(Flush(21).drained);
    outbox.Push(log, Direct("d"));
    log.AppendEvent("five");
    CHECK_FALSE(Flush(0).drained);
    const Outbox::Skipped result = outbox.SkipTo(log, log.end(), true);
    CHECK(result.skipped == 1);
    CHECK(FlushAll() == "1:d,");
  }
  SECTION("in the middle of a frame nothing is different") {
    CHECK_FALSE(Flush(2).drained);  // "3:"
    const Outbox::Skipped result = outbox.SkipTo(log, Boundary{20, 3}, true);
    CHECK(result.skipped == 1);
    CHECK(FlushAll() == "two,4:four,");
  }
  SECTION("the rest of a frame that was ended before") {
    CHECK_FALSE(Flush(2).drained);  // "3:"
    outbox.SkipTo(log, Boundary{20, 3});
    log.AppendEvent("five");
    const Outbox::Skipped result = outbox.SkipTo(log, Boundary{27, 4}, true);
    CHECK(result.skipped == 1);
    CHECK(FlushAll() == "two,4:five,");
  }
}

TEST_CASE_METHOD(Fixture, "outbox: SkipTo keeps direct frames") {
  log.AppendEvent("one");
  outbox.Push(log, Direct("d1"));
  log.AppendEvent("two");
  outbox.Push(log, Direct("d2"));
  log.AppendEvent("three");
  CHECK_FALSE(Flush(3).drained);  // "3:o"
  const Outbox::Skipped result = outbox.SkipTo(log, Boundary{12, 2});
  CHECK(result.written == 0);
  CHECK(result.skipped == 1);
  CHECK(FlushAll() == "ne,2:d1,2:d2,5:three,");
  CHECK(written == 4);
}

TEST_CASE_METHOD(Fixture, "outbox: SkipTo with a direct frame sent in part") {
  outbox.Push(log, Direct("d1"));
  log.AppendEvent("one");
  CHECK_FALSE(Flush(2).drained);
  const Outbox::Skipped result = outbox.SkipTo(log, log.end());
  CHECK(result.written == 0);
  CHECK(result.skipped == 1);
  CHECK(FlushAll() == "d1,");
  CHECK(written == 1);
}

TEST_CASE_METHOD(Fixture, "outbox: SkipTo where nothing is to be skipped") {
  log.AppendEvent("one");
  log.AppendEvent("two");
  CHECK_FALSE(Flush(8).drained);

  SECTION("a place that has been passed") {
    const Outbox::Skipped result = outbox.SkipTo(log, Boundary{6, 1});
    CHECK(result.written == 0);
    CHECK(result.skipped == 0);
  }
  SECTION("the end of the frame that has been begun") {
    const Outbox::Skipped result = outbox.SkipTo(log, Boundary{12, 2});
    CHECK(result.written == 0);
    CHECK(result.skipped == 0);
  }
  CHECK(outbox.Queued(log) == 2);
  CHECK(FlushAll() == "two,");
  CHECK(written == 2);
}

TEST_CASE_METHOD(Fixture, "outbox: SkipTo ends a frame that spans segments") {
  const std::string big(2 * kSize, 'a');
  log.AppendEvent(big);
  log.AppendEvent("one");
  log.AppendEvent("two");
  CHECK_FALSE(Flush(100).drained);
  const std::string whole = netstring::Encode(big);
  const Outbox::Skipped result = outbox.SkipTo(log, Boundary{whole.size() + 6, 2});
  CHECK(result.written == 0);
  CHECK(result.skipped == 1);
  log.Trim();
  CHECK(log.segments() == 1);
  CHECK((FlushAll() == whole.substr(100) + "3:two,"));
  CHECK(written == 2);
}

TEST_CASE_METHOD(Fixture, "outbox: Abandon counts what was due") {
  SECTION("nothing") {
    const Outbox::Abandoned result = outbox.Abandon(log);
    CHECK(result.written == 0);
    CHECK(result.dropped == 0);
  }
  SECTION("before it has been sent anything") {
    log.AppendEvent("one");
    outbox.Push(log, Direct("d1"));
    const Outbox::Abandoned result = outbox.Abandon(log);
    CHECK(result.written == 0);
    CHECK(result.dropped == 2);
    CHECK(outbox.direct_bytes() == 0);
  }
  SECTION("at a frame's start") {
    for (const char* event : {"one", "two", "three"}) log.AppendEvent(event);
    CHECK_FALSE(Flush(12).drained);
    const Outbox::Abandoned result = outbox.Abandon(log);
    CHECK(result.written == 2);
    CHECK(result.dropped == 1);
  }
  SECTION("within a frame, which is lost") {
    for (const char* event : {"one", "two", "three"}) log.AppendEvent(event);
    outbox.Push(log, Direct("d1"));
    CHECK_FALSE(Flush(11).drained);
    const Outbox::Abandoned result = outbox.Abandon(log);
    CHECK(result.written == 1);
    CHECK(result.dropped == 3);
  }
  SECTION("within a direct frame, which is lost") {
    outbox.Push(log, Direct("d1"));
    CHECK_FALSE(Flush(4).drained);
    const Outbox::Abandoned result = outbox.Abandon(log);
    CHECK(result.written == 0);
    CHECK(result.dropped == 1);
  }
  log.Mark();
  CHECK(log.segments() == 0);
}

TEST_CASE("outbox: a raw event of one byte that is on its way is not skipped") {
  BroadcastLog log(BroadcastLog::Format::kRaw);
  Outbox outbox;
  outbox.Start(log);
  for (const char* event : {"a", "b", "c", "d"}) log.AppendEvent(event);
  CHECK_FALSE(outbox.Consume(log, 1).drained);
  log.Mark();
  const Outbox::Skipped skipped = outbox.SkipTo(log, Boundary{3, 3}, true);
  CHECK(skipped.written == 1);
  CHECK(skipped.skipped == 1);
  std::uint64_t written = 0;
  CHECK(SendAll(outbox, log, written) == "bd");
  CHECK(written == 2);
}

TEST_CASE("outbox: raw events") {
  BroadcastLog log(BroadcastLog::Format::kRaw);
  Outbox outbox;
  outbox.Start(log);
  for (const char* event : {"one", "two", "three"}) log.AppendEvent(event);
  CHECK(Next(outbox, log) == "onetwothree");
  CHECK_FALSE(outbox.Consume(log, 4).drained);
  log.Mark();
  const Outbox::Skipped skipped = outbox.SkipTo(log, log.end());
  CHECK(skipped.written == 1);
  CHECK(skipped.skipped == 1);
  log.AppendEvent("four");
  std::uint64_t written = 0;
  CHECK(SendAll(outbox, log, written) == "wofour");
  CHECK(written == 2);
}

}  // namespace evrelay
