// evrelay pub against a relay that does what the test says.

#include <string>
#include <vector>

#include "client/pub.h"
#include "fake_relay.h"
#include "support/catch.h"

using evrelay::PubOptions;
using evrelay::RunPub;
using evrelay::Streams;
using evrelay::netstring::Encode;
using evrelay::netstring::EncodeList;
using evrelay::testing::FakeRelay;
using evrelay::testing::Peer;
using evrelay::testing::Running;

namespace {

Running::Command Pub(const PubOptions& options) {
  return [options](const Streams& streams) { return RunPub(options, streams); };
}

std::string Request(std::string_view event) { return EncodeList({"relay", event}); }

}  // namespace

TEST_CASE("pub sends each DATA as a data frame, then ends its side") {
  FakeRelay relay;
  Running pub(Pub({.socket = relay.path(), .data = {"hello", "a\nb", "\xff:,"}}));
  Peer peer = relay.Accept();
  CHECK(peer.ReadAll() == "5:hello,3:a\nb,3:\xff:,,");
  peer.Close();
  CHECK(pub.ExitCode() == 0);
  CHECK(pub.Err().empty());
}

TEST_CASE("pub refuses an empty DATA before it connects") {
  Running pub(Pub({.socket = "/nonexistent", .data = {"a", ""}}));
  CHECK(pub.ExitCode() == 2);
  CHECK(pub.Err() == "evrelay pub: DATA is empty; an event has at least one byte\n");
}

TEST_CASE("pub reads one event a line, the last one with or without a newline") {
  FakeRelay relay;
  Running pub(Pub({.socket = relay.path()}));
  Peer peer = relay.Accept();
  SECTION("without") { pub.Input("one\ntwo \r\nthree"); }
  SECTION("with") { pub.Input("one\ntwo \r\nthree\n"); }
  pub.EndInput();
  CHECK(peer.ReadAll() == "3:one,5:two \r,5:three,");
  peer.Close();
  CHECK(pub.ExitCode() == 0);
  CHECK(pub.Err().empty());
}

TEST_CASE("pub never delays an event until more input comes") {
  FakeRelay relay;
  Running pub(Pub({.socket = relay.path()}));
  Peer peer = relay.Accept();
  for (int i = 0; i < 3; ++i) {
    pub.Input("event\nbegun");
    CHECK(peer.Read(8) == "5:event,");
    pub.Input("ended\n");
    CHECK(peer.Read(14) == "10:begunended,");
  }
  pub.EndInput();
  CHECK(peer.ReadAll().empty());
  peer.Close();
  CHECK(pub.ExitCode() == 0);
}

TEST_CASE("pub skips empty lines and says how many") {
  FakeRelay relay;
  Running pub(Pub({.socket = relay.path()}));
  Peer peer = relay.Accept();
  pub.Input("\none\n\n\ntwo\n");
  pub.EndInput();
  CHECK(peer.ReadAll() == "3:one,3:two,");
  peer.Close();
  CHECK(pub.ExitCode() == 0);
  CHECK(pub.Err() == "evrelay pub: skipped 3 empty lines\n");
}

TEST_CASE("pub with no input at all is done at once") {
  FakeRelay relay;
  Running pub(Pub({.socket = relay.path()}));
  pub.EndInput();
  Peer peer = relay.Accept();
  CHECK(peer.ReadAll().empty());
  peer.Close();
  CHECK(pub.ExitCode() == 0);
}

TEST_CASE("pub --netstring passes frames on as the relay writes them") {
  FakeRelay relay;
  Running pub(Pub({.socket = relay.path(), .netstring = true}));
  Peer peer = relay.Accept();
  pub.Input("5:he");
  pub.Input("llo,\n0:,  03:a\nb,");
  pub.EndInput();
  CHECK(peer.ReadAll() == "5:hello,3:a\nb,");
  peer.Close();
  CHECK(pub.ExitCode() == 0);
  CHECK(pub.Err().empty());
}

TEST_CASE("pub --netstring stops at a malformed frame and sends those before it") {
  FakeRelay relay;
  Running pub(Pub({.socket = relay.path(), .netstring = true}));
  Peer peer = relay.Accept();
  std::string trouble;
  SECTION("no size") {
    pub.Input("5:hello,x");
    trouble = "bad-size: the input is no netstring after 1 frame";
  }
  SECTION("no comma") {
    pub.Input("5:hello,2:ab]");
    trouble = "bad-type: the input is no netstring after 1 frame";
  }
  SECTION("larger than any event") {
    pub.Input("5:hello,2000000000:");
    trouble = "too-big: the input is no netstring after 1 frame";
  }
  SECTION("ends too early") {
    pub.Input("5:hello,6:hel");
    pub.EndInput();
    trouble = "truncated: the input ends inside a frame, after 1 frame";
  }
  CHECK(peer.ReadAll() == "5:hello,");
  peer.Close();
  CHECK(pub.ExitCode() == 1);
  CHECK(pub.Err() == "evrelay pub: " + trouble + "\n");
}

TEST_CASE("pub --ack sends its requests without waiting for answers and accepts ok") {
  FakeRelay relay;
  Running pub(Pub({.socket = relay.path(), .ack = true, .data = {"one", "two", "three"}}));
  Peer peer = relay.Accept();
  CHECK(peer.ReadAll() == Request("one") + Request("two") + Request("three"));
  peer.Answer({"ok", "2"});
  peer.Answer({"ok", "0"});
  peer.Answer({"ok", "1"});
  peer.Close();
  CHECK(pub.ExitCode() == 0);
  CHECK(pub.Err().empty());
}

TEST_CASE("pub --ack tells which event was refused, and goes on") {
  FakeRelay relay;
  Running pub(Pub({.socket = relay.path(), .ack = true}));
  Peer peer = relay.Accept();
  pub.Input("one\ntwo\n");
  const std::string expected = Request("one") + Request("two");
  CHECK(peer.Read(expected.size()) == expected);
  peer.Answer({"error", "too-big", "the event is over max_event"});
  peer.Answer({"ok", "1"});
  pub.Input("three\n");
  CHECK(peer.Read(Request("three").size()) == Request("three"));
  peer.Answer({"error", "draining", "evrelay is stopping"});
  pub.EndInput();
  CHECK(peer.ReadAll().empty());
  peer.Close();
  CHECK(pub.ExitCode() == 1);
  CHECK(pub.Err() ==
        "evrelay pub: event 1: too-big: the event is over max_event\n"
        "evrelay pub: event 3: draining: evrelay is stopping\n");
}

TEST_CASE("pub --ack fails when answers are missing") {
  FakeRelay relay;
  Running pub(Pub({.socket = relay.path(), .ack = true, .data = {"one", "two", "three"}}));
  Peer peer = relay.Accept();
  peer.ReadAll();
  peer.Answer({"ok", "2"});
  peer.Close();
  CHECK(pub.ExitCode() == 1);
  CHECK(pub.Err() == "evrelay pub: the relay closed the connection; not answered: 2 events\n");
}

TEST_CASE("pub takes nothing for an answer that is none") {
  FakeRelay relay;
  const bool ack = GENERATE(true, false);
  Running pub(Pub({.socket = relay.path(), .ack = ack, .data = {"one"}}));
  Peer peer = relay.Accept();
  peer.ReadAll();
  const std::vector<std::string> answers{
      "SSH-2.0\r\n",         "2:ok,",  EncodeList({"okay"}),
      EncodeList({"error"}), "3:abc]", EncodeList({"ok", "1"}) + EncodeList({"ok", "1"})};
  peer.Write(answers[GENERATE(range(0U, 6U))]);
  peer.Close();
  CHECK(pub.ExitCode() == 1);
  CHECK(pub.Err() ==
        "evrelay pub: what answers at this socket is not the producer port of evrelay\n");
}

TEST_CASE("pub tells once when it was given the control socket") {
  FakeRelay relay("control.sock");
  bool ack = false;
  std::string code;
  SECTION("by data frames") { code = "bad-type"; }
  SECTION("by requests") {
    ack = true;
    code = "bad-arguments";
  }
  Running pub(Pub({.socket = relay.path(), .ack = ack, .data = {"one", "two"}}));
  Peer peer = relay.Accept();
  peer.ReadAll();
  // In one write, as the command leaves with the first answer.
  const std::string answer = EncodeList({"error", code, "not here"});
  peer.Write(ack ? answer + answer : answer);
  peer.Close();
  CHECK(pub.ExitCode() == 1);
  CHECK(pub.Err() == "evrelay pub: " + code +
                         ": not here\n"
                         "this looks like the control socket; pub takes the producer socket\n");
}

TEST_CASE("pub without --ack reports an error that closes the connection") {
  FakeRelay relay;
  Running pub(Pub({.socket = relay.path()}));
  Peer peer = relay.Accept();
  pub.Input("one\n");
  peer.Read(6);
  peer.Answer({"error", "forbidden", "producer.allow has no rule for uid 1000"});
  // Standard input stays open: pub ends all the same.
  SECTION("politely") { peer.FinishWriting(); }
  SECTION("at once") { peer.Close(); }
  CHECK(pub.ExitCode() == 1);
  CHECK(pub.Err() == "evrelay pub: forbidden: producer.allow has no rule for uid 1000\n");
}

TEST_CASE("pub reports a relay that closes with events unread") {
  FakeRelay relay;
  Running pub(Pub({.socket = relay.path(), .data = {std::string(1 << 20, 'x')}}));
  Peer peer = relay.Accept();
  peer.Read(1);
  peer.Close();
  CHECK(pub.ExitCode() == 1);
  CHECK(pub.Err() ==
        "evrelay pub: the relay closed the connection before the end; events may be lost\n");
}

TEST_CASE("pub reports a relay that leaves its last event unread") {
  FakeRelay relay;
  Running pub(Pub({.socket = relay.path(), .data = {"x"}}));
  Peer peer = relay.Accept();
  peer.AwaitEnd();
  peer.Close();
  CHECK(pub.ExitCode() == 1);
  CHECK(pub.Err() ==
        "evrelay pub: the relay closed the connection before the end; events may be lost\n");
}

TEST_CASE("pub reports a relay that closes while input is open") {
  FakeRelay relay;
  Running pub(Pub({.socket = relay.path()}));
  relay.Accept().Close();
  CHECK(pub.ExitCode() == 1);
  CHECK(pub.Err() ==
        "evrelay pub: the relay closed the connection before the end; events may be lost\n");
}

TEST_CASE("pub --ack reads answers while it writes, so neither side waits for ever") {
  // Far more of both than the sockets hold: the relay answers before it reads on.
  constexpr int kEvents = 40'000;
  FakeRelay relay;
  Running pub(Pub({.socket = relay.path(), .ack = true}));
  std::thread writer([&pub] {
    for (int i = 0; i < kEvents; ++i) pub.Input("0123456789abcdef\n");
    pub.EndInput();
  });
  Peer peer = relay.Accept();
  const std::string request = Request("0123456789abcdef");
  int good = 0;
  for (int i = 0; i < kEvents && peer.Read(request.size()) == request; ++i) {
    peer.Answer({"ok", "1"});
    ++good;
  }
  CHECK(peer.ReadAll().empty());
  peer.Close();
  writer.join();
  CHECK(good == kEvents);
  CHECK(pub.ExitCode() == 0);
}

TEST_CASE("pub hands over an event larger than any buffer") {
  FakeRelay relay;
  const std::string event(5 << 20, 'e');
  Running pub(Pub({.socket = relay.path()}));
  std::thread writer([&pub, &event] {
    pub.Input(event);
    pub.EndInput();
  });
  Peer peer = relay.Accept();
  CHECK((peer.ReadAll() == Encode(event)));
  peer.Close();
  writer.join();
  CHECK(pub.ExitCode() == 0);
}

TEST_CASE("pub says what to do when no relay is there") {
  FakeRelay relay;
  const std::string directory = relay.directory();
  ::setenv("XDG_RUNTIME_DIR", directory.c_str(), 1);
  std::string err;

  SECTION("the path does not exist") {
    Running pub(Pub({.socket = directory + "/none.sock", .data = {"x"}}));
    CHECK(pub.ExitCode() == 1);
    err = pub.Err();
    CHECK(err.find("connect " + directory + "/none.sock: No such file") != err.npos);
    CHECK(err.find("evrelay serve -c FILE") != err.npos);
  }
  SECTION("nobody listens") {
    relay.Stop();
    Running pub(Pub({.socket = relay.path(), .data = {"x"}}));
    CHECK(pub.ExitCode() == 1);
    err = pub.Err();
    CHECK(err.find("connect " + relay.path() + ": Connection refused") != err.npos);
    CHECK(err.find("evrelay serve -c FILE") != err.npos);
  }
  SECTION("$EVRELAY_SOCKET is the only path tried when it is set") {
    ::setenv("EVRELAY_SOCKET", (directory + "/env.sock").c_str(), 1);
    Running pub(Pub({.data = {"x"}}));
    CHECK(pub.ExitCode() == 1);
    err = pub.Err();
    CHECK(err.find("connect " + directory + "/env.sock: No such file") != err.npos);
    ::unsetenv("EVRELAY_SOCKET");
  }
  // A relay that runs on this machine would be found, and would get the event.
  if (::access("/run/evrelay/producer.sock", F_OK) != 0) {
    SECTION("none of the default paths exists") {
      Running pub(Pub({.data = {"x"}}));
      CHECK(pub.ExitCode() == 1);
      err = pub.Err();
      CHECK(err.find("  " + directory + "/evrelay/producer.sock\n") != err.npos);
      CHECK(err.find("  /run/evrelay/producer.sock\n") != err.npos);
      CHECK(err.find("--socket PATH") != err.npos);
    }
  }
  CHECK(err.find("evrelay pub: ") == 0);
  ::unsetenv("XDG_RUNTIME_DIR");
}

TEST_CASE("pub finds the relay of the session") {
  FakeRelay relay("evrelay/producer.sock");
  ::setenv("XDG_RUNTIME_DIR", relay.directory().c_str(), 1);
  Running pub(Pub({.data = {"x"}}));
  Peer peer = relay.Accept();
  CHECK(peer.ReadAll() == "1:x,");
  peer.Close();
  CHECK(pub.ExitCode() == 0);
  ::unsetenv("XDG_RUNTIME_DIR");
}

TEST_CASE("pub tells when standard input cannot be read") {
  FakeRelay relay;
  const evrelay::UniqueFd directory(::open("/", O_RDONLY | O_CLOEXEC | O_DIRECTORY));
  const int in = directory.get();
  Running pub([&relay, in](const Streams& streams) {
    return RunPub({.socket = relay.path()}, {.in = in, .out = streams.out, .err = streams.err});
  });
  Peer peer = relay.Accept();
  CHECK(peer.ReadAll().empty());
  peer.Close();
  CHECK(pub.ExitCode() == 1);
  CHECK(pub.Err() == "evrelay pub: standard input: Is a directory\n");
}
