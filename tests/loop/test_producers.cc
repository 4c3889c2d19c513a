#include <sys/ioctl.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "evrelay/netstring.h"
#include "loop/relay_on_loop.h"
#include "support/catch.h"
#include "support/clock.h"

namespace evrelay {
namespace {

using namespace std::chrono_literals;
using namespace std::string_literals;
using netstring::EncodeList;

// The answers, each as its words joined by spaces; of an error only its code.
std::vector<std::string> Answers(std::string_view wire) {
  std::vector<std::string> answers;
  const netstring::Limits limits{.list = UINT32_MAX};
  while (!wire.empty()) {
    const netstring::Decoded frame = netstring::Decode(wire, limits);
    REQUIRE(frame.status == netstring::Status::kFrame);
    std::vector<std::string_view> words;
    REQUIRE(netstring::DecodeList(frame.payload, words));
    REQUIRE_FALSE(words.empty());
    std::string answer(words[0]);
    if (words.size() > 1) answer += " " + std::string(words[1]);
    if (words[0] == "error") {
      CHECK(words.size() == 3);
      CHECK_FALSE(words.back().empty());
    }
    answers.push_back(answer);
    wire.remove_prefix(frame.consumed);
  }
  return answers;
}

using Expected = std::vector<std::string>;

}  // namespace

TEST_CASE("producers: requests are answered in order") {
  RelayOnLoop relay;
  Peer subscriber = relay.Subscriber();
  Peer producer = relay.Producer();
  relay.config.max_event = 100;
  const std::string requests = EncodeList({"ping"}) + EncodeList({"relay", "one"}) +
                               EncodeList({"nonsense"}) + EncodeList({"relay"}) +
                               EncodeList({"relay", ""}) + EncodeList({"ping", "x"}) + "0:]" +
                               EncodeList({"relay", std::string(101, 'x')}) +
                               EncodeList({"relay", std::string(100, 'x')}) + EncodeList({"ping"});
  const bool split = GENERATE(false, true);
  if (split) {
    for (const char byte : requests) relay.Feed(producer, {&byte, 1});
  } else {
    relay.Feed(producer, requests);
  }
  CHECK(Answers(relay.Receive(producer)) ==
        Expected{"ok", "ok 1", "error unknown-verb", "error bad-arguments", "error bad-arguments",
                 "error bad-arguments", "error bad-arguments", "error too-big", "ok 1", "ok"});
  CHECK(relay.Receive(subscriber) == "3:one," + netstring::Encode(std::string(100, 'x')));
  CHECK(relay.counters.requests.accepted[Verb::kPing] == 2);
  CHECK(relay.counters.requests.accepted[Verb::kRelay] == 2);
  CHECK(relay.counters.requests.errors.total() == 6);
  CHECK(relay.counters.requests.errors[ErrorCode::kBadArguments] == 4);
  CHECK(relay.producers.connections() == 1);
}

TEST_CASE("producers: a request within an event is none, however the event is cut") {
  const std::string request = EncodeList({"relay", "hidden"});
  const std::string event = request + request;
  const std::string wire =
      GENERATE_COPY(evrelay::netstring::Encode(event), EncodeList({"relay", event}));
  for (std::size_t cut = 1; cut < wire.size(); ++cut) {
    CAPTURE(wire, cut);
    RelayOnLoop relay;
    Peer subscriber = relay.Subscriber();
    Peer producer = relay.Producer();
    relay.Feed(producer, wire.substr(0, cut));
    relay.Feed(producer, wire.substr(cut));
    CHECK(relay.Receive(subscriber) == evrelay::netstring::Encode(event));
  }
}

TEST_CASE("producers: relay without subscribers is no error") {
  RelayOnLoop relay;
  Peer producer = relay.Producer();
  relay.Feed(producer, EncodeList({"relay", "one"}));
  CHECK(Answers(relay.Receive(producer)) == Expected{"ok 0"});
}

TEST_CASE("producers: protocol errors, by name, end the connection after its answers") {
  struct Fault {
    std::string bytes;
    CloseReason reason;
    ErrorCode code;
  };
  const auto fault = GENERATE(values<Fault>({
      {"x", CloseReason::kBadSize, ErrorCode::kBadSize},
      {"4294967296:", CloseReason::kBadSize, ErrorCode::kBadSize},
      {"1:ax", CloseReason::kBadType, ErrorCode::kBadType},
      {"3:abc]", CloseReason::kBadList, ErrorCode::kBadList},
      {"7:4:ping,x", CloseReason::kBadType, ErrorCode::kBadType},
      {"8:4:ping,x]", CloseReason::kBadList, ErrorCode::kBadList},
      {"6:4:ping]", CloseReason::kBadList, ErrorCode::kBadList},
      {"1048577:", CloseReason::kTooBig, ErrorCode::kTooBig},
      {"1052673:", CloseReason::kTooBig, ErrorCode::kTooBig},
  }));
  // SIZE of a data frame over max_event but below a request's limit shows with its type byte only.
  const std::string padding =
      fault.bytes == "1048577:" ? std::string(1048577, 'x') + "," : std::string();
  CAPTURE(fault.bytes);
  RelayOnLoop relay;
  Peer subscriber = relay.Subscriber();
  Peer other = relay.Producer();
  Peer producer = relay.Producer();
  relay.Feed(producer, "3:one," + EncodeList({"ping"}) + fault.bytes + padding + "5:never,");
  CHECK(Answers(relay.Receive(producer)) ==
        Expected{"ok", "error " + std::string(Name(fault.code))});
  CHECK(producer.end == Peer::End::kEof);
  CHECK(relay.counters.producers.closed[fault.reason] == 1);
  CHECK(relay.counters.requests.errors[fault.code] == 1);
  CHECK(relay.Receive(subscriber) == "3:one,");

  // What it still says is thrown away, until it ends too.
  relay.Feed(producer, "5:never,");
  CHECK(relay.producers.connections() == 2);
  producer.Close();
  relay.Pump();
  CHECK(relay.producers.connections() == 1);
  relay.Feed(other, "3:two,");
  CHECK(relay.Receive(subscriber) == "3:one,3:two,");
  CHECK(relay.counters.producers.closed.total() == 1);
}

TEST_CASE("producers: a closed one that never ends its side is not waited for") {
  RelayOnLoop relay;
  Peer producer = relay.Producer();
  relay.Feed(producer, "x");
  relay.Receive(producer);
  CHECK(producer.end == Peer::End::kEof);
  CHECK(relay.producers.connections() == 1);
  AdvanceClock(6s);
  relay.Pump();
  CHECK(relay.producers.connections() == 0);
}

TEST_CASE("producers: the end at a frame's boundary") {
  RelayOnLoop relay;
  Peer subscriber = relay.Subscriber();
  Peer producer = relay.Producer();
  producer.Write("3:one," + EncodeList({"relay", "two"}) + EncodeList({"ping"}));
  producer.EndWriting();
  CHECK(Answers(relay.Receive(producer)) == Expected{"ok 1", "ok"});
  CHECK(producer.end == Peer::End::kEof);
  CHECK(relay.Receive(subscriber) == "3:one,3:two,");
  CHECK(relay.counters.producers.closed[CloseReason::kEof] == 1);
  CHECK(relay.producers.connections() == 0);
}

TEST_CASE("producers: the end within a frame") {
  RelayOnLoop relay;
  Peer subscriber = relay.Subscriber();
  Peer producer = relay.Producer();
  producer.Write("3:one,3:tw");
  producer.EndWriting();
  CHECK(Answers(relay.Receive(producer)) == Expected{"error truncated"});
  CHECK(producer.end == Peer::End::kEof);
  CHECK(relay.Receive(subscriber) == "3:one,");
  CHECK(relay.counters.producers.closed[CloseReason::kTruncated] == 1);
  CHECK(relay.producers.connections() == 0);
}

TEST_CASE("producers: events are heard although their producer is gone already") {
  RelayOnLoop relay;
  Peer subscriber = relay.Subscriber();
  Peer producer = relay.Producer();
  producer.Write(Numbered(100));
  producer.Close();
  CHECK(relay.Receive(subscriber) == Numbered(100));
  CHECK(relay.producers.connections() == 0);
}

TEST_CASE("producers: events are heard although their producer is gone and its answers with it") {
  RelayOnLoop relay;
  Peer subscriber = relay.Subscriber();
  Peer producer = relay.Producer();
  relay.Feed(producer, EncodeList({"ping"}));  // its answer stays unread: the end is a reset
  producer.Write(EncodeList({"ping"}));
  std::string events = Numbered(20'000);
  events.resize(producer.Write(events));
  producer.Close();
  std::size_t used = 0;
  const std::size_t whole = WholeFrames(events, used);
  REQUIRE(whole > 1000);
  CHECK((relay.Receive(subscriber) == events.substr(0, used)));
  CHECK(relay.producers.connections() == 0);
  CHECK(relay.counters.requests.accepted[Verb::kPing] == 2);
  CHECK(relay.counters.requests.undeliverable > 0);
}

TEST_CASE("producers: unread answers pause reading, and only that producer's") {
  RelayOnLoop relay;
  Peer subscriber = relay.Subscriber();
  Peer producer = relay.Producer();
  Peer other = relay.Producer();
  std::string requests;
  constexpr std::size_t kCount = 400'000;
  for (std::size_t i = 0; i < kCount; ++i) requests += "7:4:ping,]";
  std::size_t fed = relay.Feed(producer, requests);
  CHECK(fed < requests.size());
  const std::uint64_t answered = relay.counters.requests.accepted[Verb::kPing];
  CHECK(answered * 8 > Producer::kPauseAnswers);
  CHECK(answered * 8 < Producer::kPauseAnswers + 1024 * 1024);
  CHECK(relay.counters.producers.closed.total() == 0);

  relay.Feed(other, "3:one," + EncodeList({"ping"}));
  CHECK(relay.Receive(subscriber) == "3:one,");
  CHECK(Answers(relay.Receive(other)) == Expected{"ok"});
  CHECK(relay.counters.requests.accepted[Verb::kPing] == answered + 1);

  SECTION("it reads again") {
    CHECK(relay.PumpUntil([&] {
      producer.Read();
      fed += producer.Write(std::string_view(requests).substr(fed));
      return producer.received.size() >= kCount * 8;
    }));
    CHECK(relay.counters.requests.accepted[Verb::kPing] == kCount + 1);
    std::string expected;
    for (std::size_t i = 0; i < kCount; ++i) expected += "5:2:ok,]";
    CHECK((producer.received == expected));
    CHECK(relay.counters.requests.undeliverable == 0);
  }
  SECTION("it ends its side, then reads") {
    producer.EndWriting();
    CHECK(relay.PumpUntil([&] {
      producer.Read();
      return producer.end != Peer::End::kNone;
    }));
    CHECK(producer.end == Peer::End::kEof);
    std::string expected;
    for (std::uint64_t i = 1; i < relay.counters.requests.accepted[Verb::kPing]; ++i)
      expected += "5:2:ok,]";
    CHECK((producer.received.substr(0, expected.size()) == expected));
    // It may have ended within a request.
    const bool whole = fed % 10 == 0;
    CHECK(Answers(std::string_view(producer.received).substr(expected.size())) ==
          (whole ? Expected{} : Expected{"error truncated"}));
    CHECK(relay.counters.requests.undeliverable == 0);
  }
  SECTION("it goes away") {
    producer.Close();
    CHECK(relay.PumpUntil([&] { return relay.producers.connections() == 1; }));
    // All that it wrote has been heard, for nothing.
    CHECK(relay.counters.requests.accepted[Verb::kPing] == fed / 10 + 1);
    CHECK(relay.counters.requests.undeliverable > fed / 10 - answered);
    CHECK(relay.counters.requests.undeliverable < fed / 10);
    CHECK(relay.counters.producers.closed.total() == 1);
  }
}

TEST_CASE("producers: answers go on where a full socket has cut them") {
  // Answers of two sizes, so that the kernel's pieces do not end between two of them.
  std::string some;
  for (int i = 0; i < 9; ++i) some += EncodeList({"ping"});
  some += EncodeList({std::string(GENERATE(1U, 2U, 3U, 4U), 'x')});
  constexpr std::size_t kCount = 20'000;
  std::string requests;
  for (std::size_t i = 0; i < kCount; ++i) requests += some;

  RelayOnLoop relay;
  Peer producer = relay.Producer();
  relay.Feed(producer, some);
  const std::string some_answers = relay.Receive(producer);
  REQUIRE(Answers(some_answers).size() == 10);
  producer.received.clear();

  std::size_t fed = relay.Feed(producer, requests);
  REQUIRE(fed < requests.size());
  CHECK(relay.PumpUntil([&] {
    producer.Read();
    fed += producer.Write(std::string_view(requests).substr(fed));
    return producer.received.size() >= kCount * some_answers.size();
  }));
  std::string expected;
  for (std::size_t i = 0; i < kCount; ++i) expected += some_answers;
  CHECK((relay.Receive(producer) == expected));
}

TEST_CASE("producers: requests pause at 1 MiB of unread answers, to the answer") {
  // The second is the smallest request there is; its answer, an error, is many times larger.
  const std::string request = GENERATE(EncodeList({"ping"}), "0:]"s, EncodeList({"relay", "e"}));
  CAPTURE(request);
  RelayOnLoop relay;
  Peer subscriber = relay.Subscriber();
  Peer other = relay.Producer();
  Peer producer = relay.Producer();
  relay.Feed(other, request);
  const std::size_t answer = relay.Receive(other).size();
  const auto answered = [&] {
    const auto& requests = relay.counters.requests;
    return (requests.accepted.total() + requests.errors.total() - 1) * answer;
  };
  // Those that the kernel has not taken.
  const auto unread = [&] {
    int taken = 0;
    REQUIRE(ioctl(producer.fd(), FIONREAD, &taken) == 0);
    return answered() - producer.received.size() - static_cast<std::size_t>(taken);
  };
  std::string requests;
  for (std::size_t i = 0; i < 2 * Producer::kPauseAnswers / answer + 400'000; ++i) {
    requests += request;
  }
  std::size_t fed = relay.Feed(producer, requests);
  REQUIRE(fed < requests.size());
  CHECK(answered() > Producer::kPauseAnswers);
  CHECK(unread() <= Producer::kPauseAnswers + answer);
  const std::size_t before = answered();
  relay.Pump();
  CHECK(answered() == before);

  // So it is at every pause, whatever has been read in between.
  for (int i = 0; i < 20; ++i) {
    producer.Read(i % 2 == 0 ? 1000 : 77'777);
    fed += relay.Feed(producer, std::string_view(requests).substr(fed));
    CHECK(unread() <= Producer::kPauseAnswers + answer);
  }
  CHECK(answered() > before);
  CHECK(relay.counters.producers.closed.total() == 0);
  CHECK(relay.counters.requests.undeliverable == 0);

  // What waits to be heard is heard, though nobody will read the answers.
  const std::size_t answered_by_now = answered() / answer;
  const std::size_t lost = unread() / answer;
  producer.Close();
  relay.Pump();
  CHECK(relay.producers.connections() == 1);
  CHECK(answered() / answer >= fed / request.size());
  const std::size_t later = answered() / answer - answered_by_now;
  CHECK(relay.counters.requests.undeliverable >= lost + later);
  CHECK(relay.counters.requests.undeliverable <= lost + later + 1);
}

TEST_CASE("producers: what waits for answers to be read is heard in its order, and once") {
  RelayOnLoop relay;
  Peer subscriber = relay.Subscriber();
  Peer producer = relay.Producer();
  std::string wire;
  std::string events;
  Expected expected;
  for (int i = 0; i < 60'000; ++i) {
    const std::string number = std::to_string(i);
    switch (i % 3) {
      case 0:
        netstring::Append(wire, number);
        netstring::Append(wire, number);
        netstring::Append(events, number);
        netstring::Append(events, number);
        break;
      case 1:
        wire += EncodeList({"relay", number});
        netstring::Append(events, number);
        expected.push_back("ok 1");
        break;
      case 2:
        wire += "0:]";
        expected.push_back("error bad-arguments");
        wire += EncodeList({std::string(30, 'v')});
        expected.push_back("error unknown-verb");
        break;
    }
  }
  SECTION("to its end") {}
  SECTION("up to a protocol error") {
    wire += "x";
    expected.push_back("error bad-size");
  }
  std::size_t fed = 0;
  std::size_t step = 1;
  while (true) {
    const std::size_t n = relay.Feed(producer, std::string_view(wire).substr(fed, step));
    relay.Receive(subscriber);
    fed += n;
    if (n == 0 || fed == wire.size()) break;
    step = step * 3 + 1;
  }
  CHECK(relay.counters.requests.errors.total() < 20'000);
  REQUIRE(fed < wire.size());
  CHECK(relay.PumpUntil([&] {
    producer.Read(50'000);
    subscriber.Read();
    fed += producer.Write(std::string_view(wire).substr(fed, 100'000));
    if (fed == wire.size()) producer.EndWriting();
    return producer.end != Peer::End::kNone;
  }));
  CHECK(producer.end == Peer::End::kEof);
  CHECK((Answers(producer.received) == expected));
  CHECK((relay.Receive(subscriber) == events));
  CHECK(relay.counters.requests.undeliverable == 0);
  CHECK(relay.producers.connections() == 0);
}

TEST_CASE("producers: what waits is heard in fair shares, and no byte of it is lost") {
  RelayOnLoop relay;
  std::vector<Peer> producers;
  for (int i = 0; i < 4; ++i) producers.push_back(relay.Producer());
  const bool broken = GENERATE(false, true);
  std::size_t answers = broken ? 30'000 : 60'000;
  std::string requests;
  for (std::size_t i = 0; i < answers; ++i) requests += "0:]";
  if (broken) {
    requests += "x" + std::string(100'000, '?');
    ++answers;
  }
  // Read one by one; so each has more waiting than its share of a turn when all are heard again.
  for (Peer& producer : producers) {
    REQUIRE(producer.Write(requests) == requests.size());
    relay.Pump();
    producer.EndWriting();
  }
  const std::size_t heard = relay.counters.requests.errors.total() / producers.size();
  REQUIRE(requests.size() - 3 * heard > ProducerPort::kTurnIntake / producers.size());
  CHECK(relay.PumpUntil([&] {
    bool all_ended = true;
    for (Peer& producer : producers) {
      producer.Read();
      all_ended = all_ended && producer.end != Peer::End::kNone;
    }
    return all_ended;
  }));
  for (Peer& producer : producers) {
    CHECK(producer.end == Peer::End::kEof);
    CHECK((producer.received == producers[0].received));
  }
  CHECK(relay.counters.requests.errors.total() == producers.size() * answers);
  CHECK(relay.counters.requests.undeliverable == 0);
  CHECK(relay.producers.connections() == 0);
}

TEST_CASE("producers: a drain hears what waits for answers to be read") {
  RelayOnLoop relay;
  Peer subscriber = relay.Subscriber();
  Peer producer = relay.Producer();
  // All of it is read at once, and the end of it waits.
  std::string requests;
  for (int i = 0; i < 22'000; ++i) requests += "0:]";
  requests += "4:last," + EncodeList({"relay", "no"}) + "3:end,";
  REQUIRE(producer.Write(requests) == requests.size());
  relay.Pump();
  const std::uint64_t before = relay.counters.requests.errors[ErrorCode::kBadArguments];
  REQUIRE(before < 22'000);
  CHECK(relay.Receive(subscriber).empty());
  relay.Drain();
  CHECK(relay.PumpUntil([&] {
    producer.Read();
    return producer.end != Peer::End::kNone;
  }));
  CHECK(producer.end == Peer::End::kEof);
  CHECK(relay.counters.requests.errors[ErrorCode::kBadArguments] == before);
  CHECK(relay.counters.requests.errors[ErrorCode::kDraining] == 22'000 - before + 1);
  CHECK(Answers(producer.received).size() == 22'001);
  CHECK(relay.Receive(subscriber) == "4:last,3:end,");
}

TEST_CASE("producers: held ones are not heard, though their answers have been read") {
  Config config;
  config.slow_subscriber = {64 * kKiB, SlowPolicy::kBlock, 30s};
  config.send_buffer = 16 * kKiB;
  RelayOnLoop relay(config);
  Peer slow = relay.Subscriber();
  Peer producer = relay.Producer();
  Peer flood = relay.Producer();
  std::string requests;
  constexpr std::uint64_t kCount = 22'000;
  for (std::uint64_t i = 0; i < kCount; ++i) requests += "0:]";
  REQUIRE(producer.Write(requests) == requests.size());
  relay.Pump();
  const std::uint64_t heard = relay.counters.requests.errors.total();
  REQUIRE(heard < kCount);

  const std::string wire = Numbered(1000, 1000);
  std::size_t fed = relay.Feed(flood, wire);
  REQUIRE(relay.hub.holding());
  relay.Receive(producer);
  CHECK(relay.counters.requests.errors.total() == heard);
  CHECK(Answers(producer.received).size() == heard);

  // Nothing more comes from the producer that could remind of it.
  CHECK(relay.PumpUntil([&] {
    slow.Read();
    fed += flood.Write(std::string_view(wire).substr(fed));
    producer.Read();
    return slow.received.size() >= wire.size() && relay.counters.requests.errors.total() == kCount;
  }));
  CHECK(Answers(relay.Receive(producer)).size() == kCount);
}

TEST_CASE("producers: one that goes away without having read its answer") {
  RelayOnLoop relay;
  Peer producer = relay.Producer();
  relay.Feed(producer, EncodeList({"ping"}));
  producer.Close();
  relay.Pump();
  CHECK(relay.producers.connections() == 0);
  CHECK(relay.counters.producers.closed[CloseReason::kReset] == 1);
  CHECK(relay.counters.producers.closed.total() == 1);
}

TEST_CASE("producers: one turn takes its measure, in fair shares") {
  RelayOnLoop relay;
  Peer subscriber = relay.Subscriber();
  const std::size_t count = GENERATE(1U, 2U, 10U);
  std::vector<Peer> producers;
  for (std::size_t i = 0; i < count; ++i) producers.push_back(relay.Producer());
  // All of it waits in their sockets when the turn begins.
  std::vector<std::size_t> written;
  for (std::size_t i = 0; i < count; ++i) {
    const std::string wire = Numbered(2000, 60, static_cast<char>('a' + i));
    const std::size_t n = producers[i].Write(wire);
    REQUIRE(n > 50'000);
    written.push_back(n / 64);
  }
  relay.Receive(subscriber);
  CHECK(relay.largest_intake <= ProducerPort::kTurnIntake);

  // Each has its fair share of the first turn's events, and all come in the end.
  const std::size_t first_turn =
      std::min<std::size_t>(ProducerPort::kTurnIntake, subscriber.received.size());
  std::vector<std::size_t> early(count);
  std::vector<std::size_t> all(count);
  for (std::size_t at = 0; at + 64 <= subscriber.received.size(); at += 64) {
    const auto who = static_cast<std::size_t>(subscriber.received[at + 3] - 'a');
    REQUIRE(who < count);
    if (at < first_turn) ++early[who];
    ++all[who];
  }
  CHECK(all == written);
  for (std::size_t i = 0; i < count; ++i) {
    CHECK(early[i] * 64 + 128 >= std::min(first_turn / count, written[i] * 64));
  }
}

TEST_CASE("producers: a short event does not wait behind a firehose") {
  RelayOnLoop relay;
  Peer subscriber = relay.Subscriber();
  Peer firehose = relay.Producer();
  Peer calm = relay.Producer();
  for (int i = 0; i < 5; ++i) {
    const std::size_t before = relay.Receive(subscriber).size();
    firehose.Write(Numbered(2000, 100, 'f'));
    calm.Write("4:calm,");
    relay.Receive(subscriber);
    const std::size_t place = subscriber.received.find("4:calm,", before) - before;
    CHECK(place <= ProducerPort::kTurnIntake / 2 + 110);
  }
}

TEST_CASE("producers: what producer.allow denies reaches nobody") {
  Config config;
  AllowRule stranger;
  stranger.uid = getuid() + 1;
  AllowRule self;
  self.uid = getuid();
  SECTION("another user's rule") {
    config.producer.allow = {stranger};
    RelayOnLoop relay(config);
    Peer subscriber = relay.Subscriber();
    Peer producer = relay.Producer();
    relay.Feed(producer, EncodeList({"relay", "one"}) + EncodeList({"ping"}));
    CHECK(Answers(relay.Receive(producer)) == Expected{"error forbidden", "ok"});
    CHECK(relay.producers.connections() == 1);

    relay.Feed(producer, "3:one,3:two,");
    CHECK(Answers(relay.Receive(producer)) == Expected{"error forbidden", "ok", "error forbidden"});
    CHECK(producer.end == Peer::End::kEof);
    CHECK(relay.counters.events.denied == 2);
    CHECK(relay.counters.events.relayed == 0);
    CHECK(relay.counters.producers.closed[CloseReason::kForbidden] == 1);
    CHECK(relay.Receive(subscriber).empty());
  }
  SECTION("one's own rule") {
    config.producer.allow = {stranger, self};
    RelayOnLoop relay(config);
    Peer subscriber = relay.Subscriber();
    Peer producer = relay.Producer();
    relay.Feed(producer, "3:one,");
    CHECK(relay.Receive(subscriber) == "3:one,");

    // A reload applies to those that are connected.
    relay.config.producer.allow = {stranger};
    relay.producers.OnReload();
    relay.Feed(producer, "3:two,");
    CHECK(Answers(relay.Receive(producer)) == Expected{"error forbidden"});
    CHECK(relay.Receive(subscriber) == "3:one,");
  }
}

TEST_CASE("producers: producer.allow gives single verbs") {
  Config config;
  AllowRule self;
  self.uid = getuid();
  self.verbs = {"async_unicast", "multicast"};
  config.producer.allow = {self};
  RelayOnLoop relay(config);
  Peer subscriber = relay.Subscriber();
  Command command;
  command.connection = {0, 1};
  command.verdict.Add(action::SetTag{"tag"}, 0);
  relay.hub.Apply(command);
  Peer producer = relay.Producer();
  relay.Feed(producer, EncodeList({"relay", "x"}) + EncodeList({"multicast", "m", "tag"}) +
                           EncodeList({"unicast", "x", "tag"}) + EncodeList({"async_relay", "x"}) +
                           EncodeList({"async_multicast", "x", "tag"}) +
                           EncodeList({"async_unicast", "u", "tag"}) + EncodeList({"ping"}));
  CHECK(Answers(relay.Receive(producer)) == Expected{"error forbidden", "ok 1", "error forbidden",
                                                     "error forbidden", "error forbidden",
                                                     "suspended 0", "ok"});
  CHECK(relay.Receive(subscriber) == "1:m,1:u,");
  CHECK(relay.counters.requests.errors[ErrorCode::kForbidden] == 4);
  CHECK(relay.counters.events.denied == 0);
}

TEST_CASE("producers: multicast and unicast tell those who have the tag") {
  RelayOnLoop relay;
  std::vector<Peer> peers;
  for (int i = 0; i < 4; ++i) peers.push_back(relay.Subscriber());
  for (const std::uint32_t conidx : {3U, 1U, 2U}) {
    Command command;
    command.connection = {conidx, 1};
    command.verdict.Add(action::SetTag{conidx == 3 ? "other" : "tag"}, 0);
    relay.hub.Apply(command);
  }
  Peer producer = relay.Producer();
  relay.Feed(producer,
             EncodeList({"multicast", "m", "tag"}) + EncodeList({"relay", "all"}) +
                 EncodeList({"unicast", "u", "tag"}) + EncodeList({"multicast", "x", "Tag"}) +
                 EncodeList({"unicast", "x", "ta"}) + EncodeList({"unicast", "o", "other"}));
  CHECK(Answers(relay.Receive(producer)) ==
        Expected{"ok 2", "ok 4", "ok 1", "ok 0", "error no-subscriber", "ok 1"});
  CHECK(relay.Receive(peers[0]) == "3:all,");
  CHECK(relay.Receive(peers[1]) == "1:m,3:all,1:u,");
  CHECK(relay.Receive(peers[2]) == "1:m,3:all,");
  CHECK(relay.Receive(peers[3]) == "3:all,1:o,");
  CHECK(relay.counters.requests.accepted[Verb::kMulticast] == 2);
  CHECK(relay.counters.requests.accepted[Verb::kUnicast] == 2);
}

TEST_CASE("producers: max_connections turns the surplus away at once") {
  Config config;
  config.producer.max_connections = 2;
  RelayOnLoop relay(config);
  Peer subscriber = relay.Subscriber();
  Peer one = relay.Producer();
  Peer two = relay.Producer();
  Peer surplus = relay.Producer();
  relay.Receive(surplus);
  CHECK(surplus.end != Peer::End::kNone);
  CHECK(relay.counters.producers.accepted == 2);
  CHECK(relay.counters.producers.refused[RefuseReason::kFull] == 1);
  one.Close();
  relay.Pump();
  Peer next = relay.Producer();
  relay.Feed(next, "3:one,");
  CHECK(relay.Receive(subscriber) == "3:one,");
}

}  // namespace evrelay
