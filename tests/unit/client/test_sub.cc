// evrelay sub against a relay that does what the test says.

#include <fcntl.h>

#include <string>

#include "client/sub.h"
#include "fake_relay.h"
#include "support/catch.h"

using evrelay::RunSub;
using evrelay::Streams;
using evrelay::SubOptions;
using evrelay::netstring::Encode;
using evrelay::testing::FakeRelay;
using evrelay::testing::Peer;
using evrelay::testing::ReadBytes;
using evrelay::testing::ReadLine;
using evrelay::testing::Running;
using Format = evrelay::SubOptions::Format;

namespace {

Running::Command Sub(const FakeRelay& relay, SubOptions options = {}) {
  options.address = "unix:" + relay.path();
  return [options](const Streams& streams) { return RunSub(options, streams); };
}

// Times differ from run to run, so all digits are made equal.
std::string Shape(std::string text) {
  for (char& c : text) {
    if (c >= '0' && c <= '9') c = '9';
  }
  return text;
}

}  // namespace

TEST_CASE("sub writes events in the format that was asked for") {
  FakeRelay relay;
  Format format = Format::kText;
  std::string expected;
  SECTION("a line each, bytes as they are") { expected = "hello\na\nb\n\xff\x1b\n"; }
  SECTION("raw: nothing between them") {
    format = Format::kRaw;
    expected = "helloa\nb\xff\x1b";
  }
  SECTION("netstring: the frames") {
    format = Format::kNetstring;
    expected = "5:hello,3:a\nb,2:\xff\x1b,";
  }
  Running sub(Sub(relay, {.count = 3, .format = format}));
  Peer peer = relay.Accept();
  peer.Write("5:hello,0:,3:a\nb,2:\xff\x1b,");
  CHECK(sub.ExitCode() == 0);
  CHECK(sub.Out() == expected);
  CHECK(sub.Err().empty());
}

TEST_CASE("sub --json writes one object a line") {
  FakeRelay relay;
  Running sub(Sub(relay, {.count = 4, .format = Format::kJson}));
  Peer peer = relay.Accept();
  peer.Write(Encode("{\"a\": \"\\\"}") + Encode("gr\xc3\xbc\xc3\x9f\n") + Encode("\xff") +
             Encode(std::string("\0\xc3", 2)));
  CHECK(sub.ExitCode() == 0);
  const std::string time = R"({"time":"2026-01-31T12:00:00.123456Z",)";
  CHECK(Shape(sub.Out()) == Shape(time +
                                  R"("data":"{\"a\": \"\\\"}"})"
                                  "\n" +
                                  time + "\"data\":\"gr\xc3\xbc\xc3\x9f\\n\"}\n" + time +
                                  R"("data_base64":"/w=="})"
                                  "\n" +
                                  time +
                                  R"("data_base64":"AMM="})"
                                  "\n"));
}

TEST_CASE("sub on a terminal shows the time and escapes what could steer it") {
  FakeRelay relay;
  const evrelay::UniqueFd terminal(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  REQUIRE(::grantpt(terminal.get()) == 0);
  REQUIRE(::unlockpt(terminal.get()) == 0);
  const evrelay::UniqueFd side(::open(::ptsname(terminal.get()), O_RDWR | O_NOCTTY | O_CLOEXEC));
  REQUIRE(side);
  Running sub(Sub(relay, {.count = 1}), side.get());
  Peer peer = relay.Accept();
  peer.Write(Encode("a\nb\x1b[2J\\ \xc3\xa9 \xc2\x9b \xff"));
  CHECK(sub.ExitCode() == 0);
  CHECK(Shape(ReadLine(terminal.get())) ==
        Shape("12:00:00.123 a\\nb\\x1b[2J\\\\ \xc3\xa9 \\xc2\\x9b \\xff\r\n"));
}

TEST_CASE("sub passes an event on when no more input is at hand") {
  FakeRelay relay;
  Running sub(Sub(relay));
  Peer peer = relay.Accept();
  for (int i = 0; i < 3; ++i) {
    peer.Write("5:event,5:be");
    CHECK(ReadBytes(sub.out(), 6) == "event\n");
    peer.Write("gun,");
    CHECK(ReadBytes(sub.out(), 6) == "begun\n");
  }
  sub.CloseOutput();
}

TEST_CASE("sub --count stops exactly there") {
  FakeRelay relay;
  Running sub(Sub(relay, {.count = 2}));
  Peer peer = relay.Accept();
  peer.Write("1:a,1:b,1:c,");
  SECTION("while the relay goes on") {}
  SECTION("also when the relay closes then") { peer.Close(); }
  CHECK(sub.ExitCode() == 0);
  CHECK(sub.Out() == "a\nb\n");
  CHECK(sub.Err().empty());
}

TEST_CASE("sub fails when the relay closes first") {
  FakeRelay relay;
  Running sub(Sub(relay, {.count = 3}));
  Peer peer = relay.Accept();
  std::string reason;
  SECTION("between frames") {
    peer.Write("5:hello,");
    reason = "the relay closed the connection";
  }
  SECTION("inside a frame") {
    peer.Write("5:hello,7:hel");
    reason = "the relay closed the connection inside a frame";
  }
  SECTION("after something else") {
    peer.Write("5:hello,{\"bare\": 1}");
    reason =
        "then came what is no netstring: is this the relay's subscriber port, and is its "
        "netstring_format true?";
  }
  peer.Close();
  CHECK(sub.ExitCode() == 1);
  CHECK(sub.Out() == "hello\n");
  CHECK(sub.Err() == "evrelay sub: 1 event, 5 bytes; " + reason + "\n");
}

TEST_CASE("sub sends its messages and then listens") {
  FakeRelay relay;
  const std::string large(3 << 20, 'm');
  Running sub(Sub(relay, {.count = 1, .send = {"hello", "a:b", large}}));
  Peer peer = relay.Accept();
  const std::string expected = "5:hello,3:a:b," + Encode(large);
  CHECK((peer.Read(expected.size()) == expected));
  peer.Write("2:ok,");
  CHECK(sub.ExitCode() == 0);
  CHECK(sub.Out() == "ok\n");
}

TEST_CASE("sub refuses an empty message before it connects") {
  Running sub([](const Streams& streams) {
    return RunSub({.address = "unix:/nonexistent", .send = {""}}, streams);
  });
  CHECK(sub.ExitCode() == 2);
  CHECK(sub.Err() == "evrelay sub: TEXT is empty; a message has at least one byte\n");
}

TEST_CASE("a signal ends sub with its count and exit code 0") {
  FakeRelay relay;
  const int signal = GENERATE(SIGINT, SIGTERM);
  Running sub(Sub(relay));
  Peer peer = relay.Accept();
  peer.Write("5:hello,6:worlds,");
  CHECK(ReadBytes(sub.out(), 13) == "hello\nworlds\n");
  sub.Signal(signal);
  CHECK(sub.ExitCode() == 0);
  CHECK(sub.Err() == "evrelay sub: 2 events, 11 bytes\n");
}

TEST_CASE("a signal ends sub also while nobody reads its output") {
  FakeRelay relay;
  Running sub(Sub(relay));
  Peer peer = relay.Accept();
  // The first byte shows that sub writes; the pipe holds far less than the event.
  peer.Write(Encode(std::string(4 << 20, 'x')));
  CHECK(ReadBytes(sub.out(), 1) == "x");
  sub.Signal(SIGTERM);
  CHECK(sub.ExitCode() == 0);
  CHECK(sub.Err() == "evrelay sub: 1 event, 4194304 bytes\n");
}

TEST_CASE("sub ends quietly when nobody reads its output any more") {
  FakeRelay relay;
  Running sub(Sub(relay));
  Peer peer = relay.Accept();
  peer.Write("5:hello,");
  CHECK(ReadBytes(sub.out(), 6) == "hello\n");
  SECTION("while it waits for events") { sub.CloseOutput(); }
  SECTION("while it writes") {
    peer.Write(Encode(std::string(4 << 20, 'x')));
    CHECK(ReadBytes(sub.out(), 1) == "x");
    sub.CloseOutput();
  }
  CHECK(sub.ExitCode() == 0);
  CHECK(sub.Err().empty());
}

TEST_CASE("sub keeps every byte of a stream larger than its buffers") {
  constexpr int kEvents = 30'000;
  FakeRelay relay;
  Running sub(Sub(relay, {.count = kEvents, .format = Format::kRaw}));
  Peer peer = relay.Accept();
  std::string wire;
  std::string expected;
  for (int i = 0; i < kEvents; ++i) {
    const std::string event =
        std::to_string(i) + std::string(static_cast<std::size_t>(i % 97), '.');
    wire += Encode(event);
    expected += event;
  }
  std::thread writer([&peer, &wire] { peer.Write(wire); });
  CHECK((ReadBytes(sub.out(), expected.size()) == expected));
  writer.join();
  CHECK(sub.ExitCode() == 0);
}

TEST_CASE("sub refuses a malformed address before it connects") {
  const std::string address = GENERATE("nowhere", "127.0.0.1:port", "::1:8448", "unix:relative");
  Running sub([&address](const Streams& streams) { return RunSub({.address = address}, streams); });
  CHECK(sub.ExitCode() == 2);
  const std::string err = sub.Err();
  INFO(err);
  CHECK(err.find("evrelay sub: \"" + address + "\": ") == 0);
}

TEST_CASE("sub says that a relay is not there") {
  FakeRelay relay;
  relay.Stop();
  Running sub(Sub(relay));
  CHECK(sub.ExitCode() == 1);
  const std::string err = sub.Err();
  INFO(err);
  CHECK(err.find("evrelay sub: ") == 0);
  CHECK(err.find("Connection refused") != err.npos);
}
