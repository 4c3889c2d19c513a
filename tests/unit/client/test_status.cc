// evrelay status against a relay that does what the test says.

#include <string>

#include "client/status.h"
#include "fake_relay.h"
#include "support/catch.h"

using evrelay::RunStatus;
using evrelay::StatusOptions;
using evrelay::Streams;
using evrelay::netstring::EncodeList;
using evrelay::testing::FakeRelay;
using evrelay::testing::Peer;
using evrelay::testing::Running;

namespace {

Running::Command Status(const StatusOptions& options) {
  return [options](const Streams& streams) { return RunStatus(options, streams); };
}

constexpr std::string_view kRequest = "9:6:status,]";

constexpr std::string_view kStatus =
    R"({"version":"0.1.0","uptime_s":12.52,"listen":["127.0.0.1:8448","[::1]:8448"],)"
    R"("subscribers":{"live":2,"blocked":0,"refused":{"full":0,"no-files":0},)"
    R"("closed":{"eof":3,"reset":0,"bad-size":1}},"events":{"relayed":7}})";

}  // namespace

TEST_CASE("status shows a table without the reasons that never were") {
  FakeRelay relay("control.sock");
  Running status(Status({.socket = relay.path()}));
  Peer peer = relay.Accept();
  CHECK(peer.Read(kRequest.size()) == kRequest);
  peer.Answer({"ok", kStatus});
  CHECK(status.ExitCode() == 0);
  CHECK(status.Out() ==
        "version           0.1.0\n"
        "uptime_s          12.5\n"
        "listen            127.0.0.1:8448, [::1]:8448\n"
        "subscribers       live 2, blocked 0\n"
        "  closed          eof 3, bad-size 1\n"
        "events            relayed 7\n");
}

TEST_CASE("status --json prints the document as the relay ordered it") {
  FakeRelay relay("control.sock");
  Running status(Status({.socket = relay.path(), .json = true}));
  Peer peer = relay.Accept();
  const std::string answer = EncodeList({"ok", R"({"b":[1,"x"],"a":{"c":0}})"});
  // In two parts, the second only after the command has read the first: it waits for the whole.
  peer.Write(answer.substr(0, 10));
  CHECK(peer.Read(kRequest.size()) == kRequest);
  peer.Write(answer.substr(10));
  CHECK(status.ExitCode() == 0);
  CHECK(status.Out() ==
        "{\n  \"b\": [\n    1,\n    \"x\"\n  ],\n  \"a\": {\n    \"c\": 0\n  }\n}\n");
}

TEST_CASE("status passes the relay's error on") {
  FakeRelay relay("control.sock");
  Running status(Status({.socket = relay.path()}));
  Peer peer = relay.Accept();
  peer.Answer({"error", "bad-arguments", "a request is a list of one word"});
  CHECK(status.ExitCode() == 1);
  CHECK(status.Out().empty());
  CHECK(status.Err() == "evrelay status: bad-arguments: a request is a list of one word\n");
}

TEST_CASE("status tells when it was given the producer socket") {
  FakeRelay relay("producer.sock");
  Running status(Status({.socket = relay.path()}));
  Peer peer = relay.Accept();
  peer.Answer({"error", "unknown-verb", "there is no verb 'status'; known: relay, ping"});
  CHECK(status.ExitCode() == 1);
  CHECK(status.Err() ==
        "evrelay status: unknown-verb: there is no verb 'status'; known: relay, ping\n"
        "this looks like the producer socket; status takes the control socket\n");
}

TEST_CASE("status fails when there is no answer, or none that it understands") {
  FakeRelay relay("control.sock");
  Running status(Status({.socket = relay.path()}));
  Peer peer = relay.Accept();
  std::string expected = "what answers at this socket is not the control port of evrelay\n";
  SECTION("closed") { expected = "the relay closed the connection without an answer\n"; }
  SECTION("no list") { peer.Write("2:ok,"); }
  SECTION("no document") { peer.Answer({"ok"}); }
  SECTION("no frame") { peer.Write("HTTP/1.1 400\r\n"); }
  peer.Read(kRequest.size());
  peer.Close();
  CHECK(status.ExitCode() == 1);
  CHECK(status.Err() == "evrelay status: " + expected);
}

TEST_CASE("status looks for the control socket beside the producer's") {
  FakeRelay relay("evrelay/control.sock");
  SECTION("of the session") { ::setenv("XDG_RUNTIME_DIR", relay.directory().c_str(), 1); }
  SECTION("of $EVRELAY_SOCKET") {
    ::setenv("EVRELAY_SOCKET", (relay.directory() + "/evrelay/producer.sock").c_str(), 1);
  }
  Running status(Status({.json = true}));
  Peer peer = relay.Accept();
  peer.Answer({"ok", "{}"});
  CHECK(status.ExitCode() == 0);
  CHECK(status.Out() == "{}\n");
  ::unsetenv("XDG_RUNTIME_DIR");
  ::unsetenv("EVRELAY_SOCKET");
}
