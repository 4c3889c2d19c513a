// evrelay status against a relay that does what the test says.

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

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

// In good health, and nearly everything that can be said of it.
constexpr std::string_view kStatus = R"({
  "version": "0.1.0", "pid": 4711, "uptime_s": 130.7, "state": "running",
  "listen": ["127.0.0.1:8448", "[::1]:8448"],
  "producer_socket": "/run/evrelay/producer.sock", "control_socket": "/run/evrelay/control.sock",
  "subscribers": {"live": 120, "admitting": 1, "closing": 3, "blocked": 2, "accepted": 340,
                  "refused": {"full": 0, "no-files": 0},
                  "closed": {"eof": 200, "reset": 10, "hook": 4, "stalled": 0, "drain": 0,
                             "admin": 3}},
  "tls": {"handshaking": 1, "accepted": 30, "failed": {"timeout": 0, "expired": 0}},
  "producers": {"connected": 4, "accepted": 8, "refused": {"full": 0, "no-files": 0},
                "closed": {"eof": 4, "slow-producer": 0}},
  "events": {"relayed": 7, "bytes": 2048, "denied": 0},
  "deliveries": {"due": 840, "written": 800, "queued": 40, "dropped": {"reset": 0, "drain": 0}},
  "messages": {"received": 9, "bytes": 90, "discarded_bytes": 0, "unhandled": 2, "handled": 4,
               "dropped": {"no-hook": 0, "after-close": 3}},
  "hook": {"script": "/etc/evrelay/hook.lua", "workers": 2, "stuck_workers": 0,
           "runs": {"connection-new": 340, "message-received": 4, "connection-closed": 217},
           "failed": {"error": 0, "timeout": 0, "memory": 0},
           "actions": {"relay": 5, "multicast": 0}, "stale_actions": 1},
  "requests": {"accepted": {"relay": 6, "ping": 1}, "errors": {"no-subscriber": 2, "too-big": 0},
               "undeliverable": 1},
  "async": {"suspended": 19, "resumed": 1, "expired": 12, "drained": 2, "abandoned": 3,
            "waiting": 1},
  "log": {"bytes": 1229, "segments": 1, "free_segments": 0, "max_lag": 1229},
  "loop": {"turns": 99, "sends": 98, "short_writes": 97, "holds": 0}})";

// Asks a relay that has this document.
std::string Shown(const nlohmann::ordered_json& status) {
  FakeRelay relay("control.sock");
  Running command(Status({.socket = relay.path()}));
  Peer peer = relay.Accept();
  CHECK(peer.Read(kRequest.size()) == kRequest);
  peer.Answer({"ok", status.dump()});
  CHECK(command.ExitCode() == 0);
  CHECK(command.Err().empty());
  return command.Out();
}

}  // namespace

TEST_CASE("status shows in a table what is there") {
  CHECK(Shown(nlohmann::ordered_json::parse(kStatus)) ==
        R"(  evrelay        0.1.0, running for 2m 10s, pid 4711
  subscribers at 127.0.0.1:8448, [::1]:8448
  producers at   /run/evrelay/producer.sock
  script         /etc/evrelay/hook.lua, 2 workers

  subscribers    120 live, 1 being admitted, 2 blocked, 3 closing, 1.2 KiB behind at most, 340 accepted so far
    closed       eof 200, reset 10, hook 4, admin 3
  TLS            1 in their handshake, 30 accepted so far
  producers      4 connected, 8 accepted so far
    closed       eof 4
  events         7 relayed to all, 2 KiB
  deliveries     840 due, 800 written, 40 queued
  messages       9 received, 90 B, 4 handled, 2 wait for the script
    dropped      after-close 3
  hook runs      connection-new 340, message-received 4, connection-closed 217
    actions      relay 5, 1 came too late
  requests       relay 6, ping 1
  request errors no-subscriber 2
  answers        1 undeliverable
  async          19 suspended, 1 waiting now, 1 resumed, 12 expired, 2 drained, 3 abandoned
)");
}

TEST_CASE("status leaves out what never was") {
  CHECK(Shown(nlohmann::ordered_json::parse(R"({
    "version": "0.1.0", "pid": 1, "uptime_s": 0.5, "state": "running", "listen": ["unix:/s\u001b"],
    "producer_socket": "/p", "subscribers": {"live": 0, "closed": {"eof": 0}},
    "hook": {"script": null, "workers": 1}})")) ==
        R"(  evrelay        0.1.0, running for 0s, pid 1
  subscribers at unix:/s\x1b
  producers at   /p

  subscribers    0 live
  producers      0 connected
  events         0 relayed to all
)");
}

TEST_CASE("status marks what deserves a look") {
  struct Fault {
    const char* figure;
    nlohmann::ordered_json value;
    const char* row;
  };
  for (const Fault& fault : std::vector<Fault>{
           {"/state", "draining", "! evrelay        0.1.0, draining for 2m 10s, pid 4711\n"},
           {"/hook/stuck_workers", 1,
            "! script         /etc/evrelay/hook.lua, 2 workers, 1 stuck\n"},
           {"/subscribers/closed/stalled", 2,
            "!   closed       eof 200, reset 10, hook 4, stalled 2"},
           {"/subscribers/refused/full", 3, "!   turned away  full 3\n"},
           {"/tls/failed/expired", 12, "!   failed       expired 12\n"},
           {"/producers/closed/slow-producer", 4, "!   closed       eof 4, slow-producer 4\n"},
           {"/producers/refused/no-files", 5, "!   turned away  no-files 5\n"},
           {"/loop/holds", 6, "!   held back    6 times\n"},
           {"/events/denied", 7, "!   denied       7 by producer.allow\n"},
           {"/deliveries/dropped/drain", 8, "!   dropped      drain 8\n"},
           {"/messages/discarded_bytes", 9, "! bad frames     9 B discarded\n"},
           {"/hook/failed/timeout", 10, "!   failed       timeout 10\n"},
           {"/requests/errors/too-big", 11, "! request errors no-subscriber 2, too-big 11\n"}}) {
    nlohmann::ordered_json status = nlohmann::ordered_json::parse(kStatus);
    status[nlohmann::ordered_json::json_pointer(fault.figure)] = fault.value;
    const std::string shown = Shown(status);
    INFO(shown);
    CHECK(shown.find(fault.row) != std::string::npos);
    CHECK(shown.ends_with("\n\n! deserves a look: evrelay-protocol(7) says what the words mean\n"));
    CHECK(std::count(shown.begin(), shown.end(), '!') == 2);
  }
}

TEST_CASE("status --balance says whether the books balance") {
  FakeRelay relay("control.sock");
  Running status(Status({.socket = relay.path(), .format = StatusOptions::Format::kBalance}));
  Peer peer = relay.Accept();
  nlohmann::ordered_json document = nlohmann::ordered_json::parse(kStatus);
  int code = 0;
  std::string verdict = "ok";
  SECTION("they do") {}
  SECTION("they do not") {
    document["deliveries"]["written"] = 801;
    code = 1;
    verdict = "OFF BY 1";
  }
  peer.Answer({"ok", document.dump()});
  CHECK(status.ExitCode() == code);
  const std::string out = status.Out();
  INFO(out);
  CHECK(out.starts_with("deliveries  due 840 = written 80"));
  CHECK(out.substr(0, out.find('\n')).ends_with("  " + verdict));
  CHECK(status.Err().empty());
}

TEST_CASE("status --json prints the document as the relay ordered it") {
  FakeRelay relay("control.sock");
  Running status(Status({.socket = relay.path(), .format = StatusOptions::Format::kJson}));
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
  SECTION("no document") {
    peer.Answer({"ok"});
    expected = "the relay's answer is not understood; is it another version of evrelay?\n";
  }
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
  Running status(Status({.format = StatusOptions::Format::kJson}));
  Peer peer = relay.Accept();
  peer.Answer({"ok", "{}"});
  CHECK(status.ExitCode() == 0);
  CHECK(status.Out() == "{}\n");
  ::unsetenv("XDG_RUNTIME_DIR");
  ::unsetenv("EVRELAY_SOCKET");
}
