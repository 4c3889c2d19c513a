// evrelay clients against a relay that does what the test says.

#include <string>

#include "client/clients.h"
#include "fake_relay.h"
#include "support/catch.h"

using evrelay::ClientsOptions;
using evrelay::RunClients;
using evrelay::Streams;
using evrelay::testing::FakeRelay;
using evrelay::testing::Peer;
using evrelay::testing::Running;

namespace {

Running::Command Clients(const ClientsOptions& options) {
  return [options](const Streams& streams) { return RunClients(options, streams); };
}

void Expect(Peer& peer, std::string_view request) { CHECK(peer.Read(request.size()) == request); }

constexpr std::string_view kFirst =
    R"({"conidx":0,"address":"127.0.0.1:40312","tag":"","state":"live","age_s":273600.5,)"
    R"("lag":0,"unhandled":0})";
constexpr std::string_view kSecond =
    R"({"conidx":17,"address":"[::1]:9","tag":"a\u001b[2J\nb","state":"admitting","age_s":1.999,)"
    R"("lag":1229,"unhandled":1024})";

std::string Part(std::string_view clients, std::string_view next) {
  return R"({"clients":[)" + std::string(clients) + R"(],"next":)" + std::string(next) + "}";
}

}  // namespace

TEST_CASE("clients asks until it has all, and shows them in a table") {
  FakeRelay relay("control.sock");
  Running clients(Clients({.socket = relay.path()}));
  Peer peer = relay.Accept();
  Expect(peer, "14:7:clients,1:0,]");
  peer.Answer({"ok", Part(kFirst, "17")});
  Expect(peer, "15:7:clients,2:17,]");
  peer.Answer({"ok", Part(kSecond, "null")});
  CHECK(clients.ExitCode() == 0);
  CHECK(clients.Out() ==
        "CONIDX  STATE        AGE      LAG  UNHANDLED  ADDRESS          TAG\n"
        "     0  live       3d 4h        -          -  127.0.0.1:40312\n"
        "    17  admitting     1s  1.2 KiB       1024  [::1]:9          a\\x1b[2J\\nb\n");
}

TEST_CASE("clients says so when nobody is connected") {
  FakeRelay relay("control.sock");
  Running clients(Clients({.socket = relay.path()}));
  Peer peer = relay.Accept();
  peer.Answer({"ok", Part("", "null")});
  CHECK(clients.ExitCode() == 0);
  CHECK(clients.Out() == "no subscriber is connected\n");
}

TEST_CASE("clients --json prints an object a line, as the relay ordered it") {
  FakeRelay relay("control.sock");
  Running clients(Clients({.socket = relay.path(), .json = true}));
  Peer peer = relay.Accept();
  std::string expected;
  SECTION("nobody") { peer.Answer({"ok", Part("", "null")}); }
  SECTION("two, in two parts") {
    Expect(peer, "14:7:clients,1:0,]");
    peer.Answer({"ok", Part(kFirst, "1")});
    Expect(peer, "14:7:clients,1:1,]");
    peer.Answer({"ok", Part(kSecond, "null")});
    expected = std::string(kFirst) + "\n" + std::string(kSecond) + "\n";
  }
  CHECK(clients.ExitCode() == 0);
  CHECK(clients.Out() == expected);
}

TEST_CASE("clients fails when the answer is not understood") {
  FakeRelay relay("control.sock");
  Running clients(Clients({.socket = relay.path()}));
  Peer peer = relay.Accept();
  SECTION("no document") { peer.Answer({"ok"}); }
  SECTION("no list") { peer.Answer({"ok", "{}"}); }
  SECTION("no connections") { peer.Answer({"ok", R"({"clients":[1],"next":null})"}); }
  CHECK(clients.ExitCode() == 1);
  CHECK(clients.Out().empty());
  CHECK(clients.Err() ==
        "evrelay clients: the relay's answer is not understood; is it another version of "
        "evrelay?\n");
}
