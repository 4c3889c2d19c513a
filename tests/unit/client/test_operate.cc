// evrelay close, reload and drain against a relay that does what the test says. That drain waits
// for the relay's process is a test of the daemon: here that is the test's own.

#include <string>

#include "client/operate.h"
#include "fake_relay.h"
#include "support/catch.h"

using evrelay::RunClose;
using evrelay::RunDrain;
using evrelay::RunReload;
using evrelay::Streams;
using evrelay::testing::FakeRelay;
using evrelay::testing::Peer;
using evrelay::testing::Running;

namespace {

void Expect(Peer& peer, std::string_view request) { CHECK(peer.Read(request.size()) == request); }

}  // namespace

TEST_CASE("close asks for it and says nothing") {
  FakeRelay relay("control.sock");
  Running close([&](const Streams& streams) {
    return RunClose({.socket = relay.path(), .conidx = 42}, streams);
  });
  Peer peer = relay.Accept();
  Expect(peer, "13:5:close,2:42,]");
  int code = 0;
  std::string trouble;
  SECTION("done") { peer.Answer({"ok"}); }
  SECTION("refused") {
    peer.Answer({"error", "no-connection", "no connection has conidx 42"});
    code = 1;
    trouble = "evrelay close: no-connection: no connection has conidx 42\n";
  }
  CHECK(close.ExitCode() == code);
  CHECK(close.Out().empty());
  CHECK(close.Err() == trouble);
}

TEST_CASE("reload tells the errors, one a line") {
  FakeRelay relay("control.sock");
  Running reload(
      [&](const Streams& streams) { return RunReload({.socket = relay.path()}, streams); });
  Peer peer = relay.Accept();
  Expect(peer, "9:6:reload,]");
  int code = 1;
  std::string trouble;
  SECTION("done") {
    peer.Answer({"ok"});
    code = 0;
  }
  SECTION("failed") {
    peer.Answer({"error", "reload-failed", "e.yaml:1:1: one\ne.yaml:2:1: two"});
    trouble = "evrelay reload: nothing has changed:\ne.yaml:1:1: one\ne.yaml:2:1: two\n";
  }
  SECTION("draining") {
    peer.Answer({"error", "draining", "the relay drains"});
    trouble = "evrelay reload: draining: the relay drains\n";
  }
  SECTION("killed") {
    peer.Close();
    trouble = "evrelay reload: the relay closed the connection without an answer\n";
  }
  CHECK(reload.ExitCode() == code);
  CHECK(reload.Out().empty());
  CHECK(reload.Err() == trouble);
}

TEST_CASE("drain fails when it is not answered ok") {
  FakeRelay relay("control.sock");
  Running drain(
      [&](const Streams& streams) { return RunDrain({.socket = relay.path()}, streams); });
  Peer peer = relay.Accept();
  Expect(peer, "8:5:drain,]");
  std::string trouble;
  SECTION("closed") { trouble = "the relay closed the connection without an answer\n"; }
  SECTION("refused") {
    peer.Answer({"error", "unknown-verb", "known: status"});
    trouble =
        "unknown-verb: known: status\n"
        "this looks like the producer socket; drain takes the control socket\n";
  }
  peer.Close();
  CHECK(drain.ExitCode() == 1);
  CHECK(drain.Out().empty());
  CHECK(drain.Err() == "evrelay drain: " + trouble);
}
