// evrelay pub against a relay that does what the test says.

#include <pty.h>
#include <termios.h>

#include <algorithm>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "client/pub.h"
#include "fake_relay.h"
#include "support/catch.h"

using evrelay::PubOptions;
using evrelay::RunPub;
using evrelay::Streams;
using evrelay::UniqueFd;
using evrelay::netstring::Encode;
using evrelay::netstring::EncodeList;
using evrelay::testing::FakeRelay;
using evrelay::testing::Peer;
using evrelay::testing::ReadBytes;
using evrelay::testing::ReadLine;
using evrelay::testing::ReadToEof;
using evrelay::testing::Running;

namespace {

Running::Command Pub(const PubOptions& options) {
  return [options](const Streams& streams) { return RunPub(options, streams); };
}

std::string Request(std::string_view event) { return EncodeList({"relay", event}); }
std::string AsyncRequest(std::string_view event) { return EncodeList({"async_relay", event}); }

// N lines: 1, 2, 3…
std::string Lines(int count) {
  std::string lines;
  for (int i = 1; i <= count; ++i) lines += std::to_string(i) + "\n";
  return lines;
}

// A terminal of whose user the test plays the part. It alters nothing.
struct Terminal {
  Terminal() {
    int user_fd = -1;
    int command_fd = -1;
    termios raw{};
    ::cfmakeraw(&raw);
    if (::openpty(&user_fd, &command_fd, nullptr, &raw, nullptr) != 0) {
      throw std::runtime_error("openpty");
    }
    user = UniqueFd(user_fd);
    command = UniqueFd(command_fd);
  }
  // Waits until `text` has come.
  void Await(std::string_view text) {
    while (written.find(text) == written.npos) {
      const std::string byte = ReadBytes(user.get(), 1);
      if (byte.empty()) throw std::runtime_error("the terminal's other side is closed");
      written += byte;
    }
  }
  // All that is written until the command's side is closed.
  void AwaitEnd() {
    command.Close();
    written += ReadToEof(user.get());
  }
  // What a person sees then: the lines without trailing spaces.
  std::string Screen() const {
    std::string screen;
    std::string line;
    std::size_t column = 0;
    for (char c : written) {
      if (c == '\r') {
        column = 0;
      } else if (c == '\n') {
        screen += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
        line.clear();
        column = 0;
      } else {
        line.resize(std::max(line.size(), column + 1), ' ');
        line[column++] = c;
      }
    }
    return screen + line.substr(0, line.find_last_not_of(' ') + 1);
  }

  UniqueFd user;
  UniqueFd command;
  std::string written;
};

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

TEST_CASE("pub addresses a tag with requests, and checks their answers") {
  FakeRelay relay;
  PubOptions options{.socket = relay.path(), .data = {"one", "two"}};
  std::string verb = "multicast";
  SECTION("multicast") {}
  SECTION("multicast, async") { options.async = true; }
  SECTION("unicast") { verb = "unicast"; }
  SECTION("unicast, async, with a timeout") {
    verb = "unicast";
    options.async = true;
    options.timeout = std::chrono::milliseconds(1500);
  }
  (verb == "unicast" ? options.unicast : options.multicast) = "a tag";
  Running pub(Pub(options));
  Peer peer = relay.Accept();
  std::string requests;
  for (const std::string& event : options.data) {
    std::vector<std::string_view> items{verb, event, "a tag"};
    if (options.timeout) items.push_back("1500");
    if (options.async) items[0] = verb = verb.starts_with("async_") ? verb : "async_" + verb;
    requests += EncodeList(items);
  }
  CHECK(peer.ReadAll() == requests);
  peer.Answer({"error", "no-subscriber", "no subscriber has this tag"});
  if (options.async) {
    peer.Answer({"suspended", "0", "7"});
    peer.Answer({"resumed", "0", "7", "yes"});
  } else {
    peer.Answer({"ok", "0"});
  }
  peer.Close();
  CHECK(pub.ExitCode() == 1);
  CHECK(pub.Out() == (options.async ? "yes\n" : ""));
  CHECK(pub.ErrUnwarned() == "evrelay pub: event 1: no-subscriber: no subscriber has this tag\n");
}

TEST_CASE("pub --async prints what hooks say as it comes, in any order") {
  FakeRelay relay;
  Running pub(Pub({.socket = relay.path(), .async = true}));
  Peer peer = relay.Accept();
  pub.Input(Lines(3));
  const std::string requests = AsyncRequest("1") + AsyncRequest("2") + AsyncRequest("3");
  CHECK(peer.Read(requests.size()) == requests);
  peer.Answer({"suspended", "0", "4294967295"});
  peer.Answer({"suspended", "1", "12"});
  peer.Answer({"resumed", "1", "12", "second"});
  CHECK(ReadLine(pub.out()) == "second\n");
  // The number is free again before the third is answered.
  peer.Answer({"suspended", "1", "13"});
  peer.Answer({"resumed", "0", "4294967295", "first\nof two lines, \xff"});
  CHECK(ReadLine(pub.out()) == "first\n");
  CHECK(ReadLine(pub.out()) == "of two lines, \xff\n");
  pub.EndInput();
  CHECK(peer.ReadAll().empty());
  peer.Answer({"resumed", "1", "13", "third"});
  peer.Close();
  CHECK(pub.ExitCode() == 0);
  CHECK(pub.Out() == "third\n");
  CHECK(pub.ErrUnwarned().empty());
}

TEST_CASE("pub --async tells which events were not resumed") {
  FakeRelay relay;
  Running pub(Pub({.socket = relay.path(), .async = true, .data = {"a", "b", "c", "d"}}));
  Peer peer = relay.Accept();
  peer.ReadAll();
  const std::string answers =
      EncodeList({"suspended", "5", "50"}) +
      EncodeList({"error", "overloaded", "too many are suspended"}) +
      EncodeList({"suspended", "6", "60"}) + EncodeList({"expired", "6", "60"}) +
      EncodeList({"error", "draining", "5", "50"}) + EncodeList({"suspended", "5", "51"}) +
      EncodeList({"resumed", "5", "51", "yes"});
  SECTION("whole answers") { peer.Write(answers); }
  SECTION("in pieces of one byte") {
    for (const char byte : answers) peer.Write({&byte, 1});
  }
  peer.Close();
  CHECK(pub.ExitCode() == 1);
  CHECK(pub.Out() == "yes\n");
  CHECK(pub.ErrUnwarned() ==
        "evrelay pub: event 2: overloaded: too many are suspended\n"
        "evrelay pub: event 3: expired: no hook resumed it in time\n"
        "evrelay pub: event 1: draining: the relay is stopping\n");
}

TEST_CASE("pub --async warns of an event that nobody can answer, once") {
  FakeRelay relay;
  Running pub(Pub({.socket = relay.path(),
                   .async = true,
                   .data = {"a $T(id_label)", "b (id_label)", "c $T(id_index)"}}));
  Peer peer = relay.Accept();
  peer.ReadAll();
  for (const char* index : {"0", "1", "2"}) {
    peer.Answer({"suspended", index, "1"});
    peer.Answer({"resumed", index, "1", "yes"});
  }
  peer.Close();
  CHECK(pub.ExitCode() == 0);
  CHECK(pub.Out() == "yes\nyes\nyes\n");
  CHECK(pub.Err() ==
        "evrelay pub: event 2 has no $T(id_label), so nobody can answer it; in a shell, put it in "
        "single quotes\n");
}

TEST_CASE("pub --async --netstring prints netstrings") {
  FakeRelay relay;
  Running pub(Pub({.socket = relay.path(), .async = true, .netstring = true}));
  Peer peer = relay.Accept();
  pub.Input("3:a\nb,");
  pub.EndInput();
  CHECK(peer.ReadAll() == AsyncRequest("a\nb"));
  peer.Answer({"suspended", "0", "1"});
  peer.Answer({"resumed", "0", "1", "x\n,"});
  peer.Close();
  CHECK(pub.ExitCode() == 0);
  CHECK(pub.Out() == "3:x\n,,");
}

TEST_CASE("pub --async fails when final answers are missing") {
  FakeRelay relay;
  Running pub(Pub({.socket = relay.path(), .async = true, .data = {"a", "b", "c", "d"}}));
  Peer peer = relay.Accept();
  peer.ReadAll();
  peer.Answer({"suspended", "0", "1"});
  peer.Answer({"suspended", "1", "1"});
  peer.Answer({"suspended", "2", "1"});
  peer.Answer({"resumed", "1", "1", "yes"});
  peer.Close();
  CHECK(pub.ExitCode() == 1);
  CHECK(pub.Out() == "yes\n");
  CHECK(pub.ErrUnwarned() ==
        "evrelay pub: the relay closed the connection; not answered: 3 events\n");
}

TEST_CASE("pub --async takes nothing for an answer that does not fit") {
  const std::string suspended = EncodeList({"suspended", "0", "7"});
  const std::string resumed = EncodeList({"resumed", "0", "7", "x"});
  const std::vector<std::string> answers{
      resumed + suspended,
      suspended + EncodeList({"resumed", "0", "8", "x"}),
      suspended + EncodeList({"expired", "1", "7"}),
      suspended + resumed + resumed,
      suspended + suspended,
      EncodeList({"suspended", "0", "1"}) + EncodeList({"suspended", "1", "1"}) +
          EncodeList({"suspended", "2", "1"}),
      EncodeList({"ok", "1"}),
      EncodeList({"suspended", "0"}),
      EncodeList({"suspended", "x", "7"}),
      EncodeList({"suspended", "0", "4294967296"}),
      EncodeList({"suspended", "0", "-7"}),
      EncodeList({"suspended", "0", "7", "x"}),
      suspended + EncodeList({"resumed", "0", "7"}),
      suspended + EncodeList({"error", "expired", "0", "7"}),
  };
  const std::string& answer = answers[GENERATE(range(0U, 14U))];
  INFO(answer);
  FakeRelay relay;
  Running pub(Pub({.socket = relay.path(), .async = true, .data = {"one", "two"}}));
  Peer peer = relay.Accept();
  peer.ReadAll();
  peer.Write(answer);
  peer.Close();
  CHECK(pub.ExitCode() == 1);
  CHECK(pub.ErrUnwarned() ==
        "evrelay pub: what answers at this socket is not the producer port of evrelay\n");
}

TEST_CASE("pub --async keeps events apart, whatever happens to them in whatever order") {
  constexpr int kEvents = 20'000;
  const unsigned seed = std::random_device{}();
  INFO("seed " << seed);
  std::mt19937 random(seed);
  const auto pick = [&random](std::size_t size) {
    return std::uniform_int_distribution<std::size_t>(0, size - 1)(random);
  };

  FakeRelay relay;
  Running pub(Pub({.socket = relay.path(), .async = true}));
  std::thread writer([&pub] {
    pub.Input(Lines(kEvents));
    pub.EndInput();
  });

  struct Open {
    std::string index, label, event;
  };
  std::vector<Open> open;
  std::set<int> free;
  for (int i = 0; i < kEvents; ++i) free.insert(i);
  std::string expected_out;
  std::vector<std::string> expected_errors;
  Peer peer = relay.Accept();
  std::string answers;
  const auto finish_one = [&] {
    std::swap(open[pick(open.size())], open.back());
    const Open& last = open.back();
    if (pick(1000) == 0) {
      answers += EncodeList({"expired", last.index, last.label});
      expected_errors.push_back(last.event);
    } else {
      answers += EncodeList({"resumed", last.index, last.label, last.event});
      expected_out += last.event + "\n";
    }
    free.insert(std::stoi(last.index));
    open.pop_back();
  };
  for (int i = 1; i <= kEvents; ++i) {
    const std::string event = std::to_string(i);
    const std::string request = AsyncRequest(event);
    if (peer.Read(request.size()) != request) {
      FAIL("request " << i);
    }
    open.push_back({std::to_string(*free.begin()), std::to_string(random() | 1), event});
    free.erase(free.begin());
    answers += EncodeList({"suspended", open.back().index, open.back().label});
    while (open.size() > 1000 || (!open.empty() && pick(3) == 0)) finish_one();
    // Now and then, and cut anywhere.
    if (pick(20) == 0) {
      const std::size_t size = pick(answers.size()) + 1;
      peer.Write(std::string_view(answers).substr(0, size));
      answers.erase(0, size);
    }
    if (i % 1000 == 0) {
      peer.Write(answers);
      answers.clear();
    }
  }
  while (!open.empty()) finish_one();
  CHECK(peer.ReadAll().empty());
  peer.Write(answers);
  peer.Close();
  writer.join();

  CHECK((ReadToEof(pub.out()) == expected_out));
  CHECK(pub.ExitCode() == (expected_errors.empty() ? 0 : 1));
  std::string expected_err;
  for (std::size_t i = 0; i < std::min<std::size_t>(expected_errors.size(), 5); ++i) {
    expected_err +=
        "evrelay pub: event " + expected_errors[i] + ": expired: no hook resumed it in time\n";
  }
  if (expected_errors.size() > 5) {
    expected_err += "evrelay pub: expired: more of these are counted, not shown\n";
    expected_err +=
        "evrelay pub: expired: " + std::to_string(expected_errors.size()) + " events in all\n";
  }
  CHECK(pub.ErrUnwarned() == expected_err);
}

TEST_CASE("pub --async has no more suspended than the relay grants it") {
  FakeRelay relay;
  Running pub(Pub({.socket = relay.path(), .async = true}));
  pub.Input(Lines(3000));
  pub.EndInput();
  Peer peer = relay.Accept();
  const auto expect = [&peer](int event) {
    const std::string request = AsyncRequest(std::to_string(event));
    return peer.Read(request.size()) == request;
  };
  for (int i = 1; i <= 2500; ++i) {
    if (!expect(i)) FAIL("request " << i);
    peer.Answer({"suspended", std::to_string(i), "1"});
  }
  int sent = 2500;
  SECTION("none has ended") {}
  SECTION("one has, and one was never suspended") {
    peer.Answer({"expired", "77", "1"});
    CHECK(expect(2501));
    peer.Answer({"error", "too-big", "x"});
    CHECK(expect(2502));
    peer.Answer({"suspended", "77", "2"});
  }
  peer.Close();
  // It counts those that were sent.
  CHECK(pub.ExitCode() == 1);
  CHECK(pub.ErrUnwarned().ends_with("not answered: " + std::to_string(sent) + " events\n"));
}

TEST_CASE("pub --async reads answers while nobody reads its output") {
  // Far more than the socket and the pipe hold: the relay would take pub for slow.
  constexpr int kEvents = 2000;
  const std::string data(8000, 'd');
  FakeRelay relay;
  Running pub(Pub({.socket = relay.path(), .async = true}));
  pub.Input(Lines(kEvents));
  pub.EndInput();
  Peer peer = relay.Accept();
  peer.ReadAll();
  for (int i = 0; i < kEvents; ++i) {
    peer.Answer({"suspended", std::to_string(i), "1"});
    peer.Answer({"resumed", std::to_string(i), "1", data});
  }
  peer.Close();
  std::string expected;
  for (int i = 0; i < kEvents; ++i) expected += data + "\n";
  CHECK((ReadToEof(pub.out()) == expected));
  CHECK(pub.ExitCode() == 0);
}

TEST_CASE("pub --async holds back events while nobody reads its output") {
  FakeRelay relay;
  Running pub(Pub({.socket = relay.path(), .async = true}));
  Peer peer = relay.Accept();
  pub.Input("1\n");
  CHECK(peer.Read(AsyncRequest("1").size()) == AsyncRequest("1"));
  peer.Answer({"suspended", "0", "1"});
  peer.Answer({"resumed", "0", "1", std::string(3 << 20, 'd')});
  // The output has begun, so the answer has been taken.
  CHECK(ReadBytes(pub.out(), 1) == "d");
  pub.Input("2\n");
  // More than a pipe holds, so pub has looked for input in between.
  CHECK((ReadBytes(pub.out(), 1 << 20) == std::string(1 << 20, 'd')));
  peer.Close();
  CHECK((ReadToEof(pub.out()) == std::string((2 << 20) - 1, 'd') + "\n"));
  CHECK(pub.ExitCode() == 1);
  // The second was not sent, so it is not missed.
  CHECK(pub.ErrUnwarned() ==
        "evrelay pub: the relay closed the connection before the end; events may be lost\n");
}

TEST_CASE("pub --async ends when nobody reads its output any more") {
  FakeRelay relay;
  Running pub(Pub({.socket = relay.path(), .async = true}));
  Peer peer = relay.Accept();
  pub.Input("1\n");
  CHECK(peer.Read(AsyncRequest("1").size()) == AsyncRequest("1"));
  pub.CloseOutput();
  peer.Answer({"suspended", "0", "1"});
  peer.Answer({"resumed", "0", "1", "x"});
  CHECK(pub.ExitCode() == 1);
  CHECK(pub.ErrUnwarned() == "evrelay pub: standard output: Broken pipe\n");
}

TEST_CASE("pub --async escapes on a terminal what could steer it") {
  FakeRelay relay;
  Terminal terminal;
  Running pub(Pub({.socket = relay.path(), .async = true, .data = {"x"}}), terminal.command.get());
  Peer peer = relay.Accept();
  peer.ReadAll();
  peer.Answer({"suspended", "0", "1"});
  peer.Answer({"resumed", "0", "1", "\x1b[31m\nred"});
  peer.Close();
  CHECK(pub.ExitCode() == 0);
  terminal.AwaitEnd();
  CHECK(terminal.written == "\\x1b[31m\\nred\n");
}

TEST_CASE("pub tells the first errors of a kind one by one, then how many there were") {
  FakeRelay relay;
  Running pub(Pub({.socket = relay.path(), .unicast = "t"}));
  std::thread writer([&pub] {
    pub.Input(Lines(50'000));
    pub.EndInput();
  });
  Peer peer = relay.Accept();
  peer.ReadAll();
  std::string answers;
  for (int i = 1; i <= 50'000; ++i) {
    if (i % 10'000 == 3) {
      answers += EncodeList({"error", "too-big", "the event is over max_event"});
    } else if (i % 10 == 0) {
      answers += EncodeList({"ok", "1"});
    } else {
      answers += EncodeList({"error", "no-subscriber", "none"});
    }
  }
  peer.Write(answers);
  peer.Close();
  writer.join();
  CHECK(pub.ExitCode() == 1);
  CHECK(pub.Err() ==
        "evrelay pub: event 1: no-subscriber: none\n"
        "evrelay pub: event 2: no-subscriber: none\n"
        "evrelay pub: event 3: too-big: the event is over max_event\n"
        "evrelay pub: event 4: no-subscriber: none\n"
        "evrelay pub: event 5: no-subscriber: none\n"
        "evrelay pub: event 6: no-subscriber: none\n"
        "evrelay pub: no-subscriber: more of these are counted, not shown\n"
        "evrelay pub: event 10003: too-big: the event is over max_event\n"
        "evrelay pub: event 20003: too-big: the event is over max_event\n"
        "evrelay pub: event 30003: too-big: the event is over max_event\n"
        "evrelay pub: event 40003: too-big: the event is over max_event\n"
        "evrelay pub: no-subscriber: 44995 events in all\n");
}

TEST_CASE("pub shows on a terminal how far it is, and nowhere else") {
  FakeRelay relay;
  const PubOptions options{.socket = relay.path()};
  const auto begin = [&relay](Running& pub) {
    Peer peer = relay.Accept();
    pub.Input("event\n");
    CHECK(peer.Read(8) == "5:event,");
    return peer;
  };
  // These have begun before the one that shows something.
  Running piped(Pub(options));
  Peer piped_peer = begin(piped);
  Terminal typing;
  Running typed([&](const Streams& streams) {
    return RunPub(options,
                  {.in = typing.command.get(), .out = streams.out, .err = typing.command.get()});
  });
  Peer typed_peer = relay.Accept();
  evrelay::WriteAll(typing.user.get(), "event\n");
  CHECK(typed_peer.Read(8) == "5:event,");

  Terminal terminal;
  Running pub([&](const Streams& streams) {
    return RunPub(options, {.in = streams.in, .out = streams.out, .err = terminal.command.get()});
  });
  Peer peer = begin(pub);
  terminal.Await("/s");
  CHECK(terminal.Screen().starts_with("1 event, "));
  pub.Input("\ntwo\n");
  terminal.Await("\r2 events, ");
  terminal.Await("/s");
  pub.Input("three\nfour");
  terminal.Await("\r3 events, ");
  terminal.Await("/s");
  pub.EndInput();
  CHECK(peer.ReadAll() == "3:two,5:three,4:four,");
  peer.Close();
  CHECK(pub.ExitCode() == 0);
  terminal.AwaitEnd();
  CHECK(terminal.Screen() == "evrelay pub: skipped 1 empty line\n");

  piped.EndInput();
  CHECK(piped_peer.ReadAll().empty());
  piped_peer.Close();
  CHECK(piped.ExitCode() == 0);
  CHECK(piped.Err().empty());
  typed_peer.Close();
  CHECK(typed.ExitCode() == 1);
  typing.AwaitEnd();
  CHECK(typing.written ==
        "evrelay pub: the relay closed the connection before the end; events may be lost\n");
}

TEST_CASE("pub wipes the progress line before it says something else") {
  FakeRelay relay;
  Terminal terminal;
  Running pub([&](const Streams& streams) {
    return RunPub({.socket = relay.path(), .ack = true},
                  {.in = streams.in, .out = streams.out, .err = terminal.command.get()});
  });
  Peer peer = relay.Accept();
  pub.Input("1\n2\n3\n");
  terminal.Await("\r0 of 3 events, 0/s");
  peer.Answer({"ok", "1"});
  terminal.Await("\r1 of 3 events, ");
  terminal.Await("/s");
  SECTION("an error") {
    peer.Answer({"error", "too-big", "x"});
    peer.Answer({"ok", "1"});
    terminal.Await("too-big: x\n");
    terminal.Await("\r3 events, ");  // and it comes back
    pub.EndInput();
    peer.ReadAll();
    peer.Close();
    CHECK(pub.ExitCode() == 1);
    terminal.AwaitEnd();
    CHECK(terminal.Screen() == "evrelay pub: event 2: too-big: x\n");
  }
  SECTION("nothing, and it is shorter than it was") {
    peer.Answer({"ok", "1"});
    peer.Answer({"ok", "1"});
    terminal.Await("\r3 events, ");
    pub.EndInput();
    peer.ReadAll();
    peer.Close();
    CHECK(pub.ExitCode() == 0);
    terminal.AwaitEnd();
    CHECK(terminal.Screen().empty());
  }
  SECTION("what ends it") {
    peer.Write("nonsense");
    CHECK(pub.ExitCode() == 1);
    terminal.AwaitEnd();
    CHECK(terminal.Screen() ==
          "evrelay pub: what answers at this socket is not the producer port of evrelay\n");
  }
}

TEST_CASE("pub takes nothing for an answer that is none") {
  FakeRelay relay;
  const bool ack = GENERATE(true, false);
  Running pub(Pub({.socket = relay.path(), .ack = ack, .data = {"one"}}));
  Peer peer = relay.Accept();
  peer.ReadAll();
  const std::vector<std::string> answers{"SSH-2.0\r\n",
                                         "2:ok,",
                                         EncodeList({"okay"}),
                                         EncodeList({"error"}),
                                         "3:abc]",
                                         EncodeList({"ok", "1"}) + EncodeList({"ok", "1"}),
                                         EncodeList({"suspended", "0", "1"})};
  peer.Write(answers[GENERATE(range(0U, 7U))]);
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
    code = GENERATE("bad-arguments", "unknown-verb");
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
  const UniqueFd directory(::open("/", O_RDONLY | O_CLOEXEC | O_DIRECTORY));
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
