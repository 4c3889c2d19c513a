// Suspended requests from end to end: producer → subscriber → hook → producer. Where time matters
// there is no worker: the test plays the hook.

#include <sys/types.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <utility>
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
using Words = std::vector<std::string>;
using Expected = std::vector<std::string>;

// Whole list frames, each as its words.
std::vector<Words> Lists(std::string_view wire) {
  std::vector<Words> lists;
  while (!wire.empty()) {
    const netstring::Decoded frame = netstring::Decode(wire, {.list = UINT32_MAX});
    REQUIRE(frame.status == netstring::Status::kFrame);
    std::vector<std::string_view> words;
    REQUIRE(netstring::DecodeList(frame.payload, words));
    lists.emplace_back(words.begin(), words.end());
    wire.remove_prefix(frame.consumed);
  }
  return lists;
}

// The same as text, without labels; of an `error CODE TEXT` without the text.
std::vector<std::string> Answers(std::string_view wire) {
  std::vector<std::string> answers;
  for (const Words& words : Lists(wire)) {
    std::string answer = words[0];
    for (std::size_t i = 1; i < words.size(); ++i) {
      const bool label = words[0] == "error" ? i == 3 : i == 2;
      const bool text = words[0] == "error" && words.size() == 3 && i == 2;
      if (!label && !text) answer += " " + words[i];
    }
    answers.push_back(answer);
  }
  return answers;
}

SuspendedId IdOf(const Words& answer, std::size_t at = 1) {
  REQUIRE(answer.size() >= at + 2);
  return {static_cast<std::uint32_t>(std::stoul(answer[at])),
          static_cast<std::uint32_t>(std::stoul(answer[at + 1]))};
}

std::string Text(SuspendedId id) {
  return std::to_string(id.index) + " " + std::to_string(id.label);
}

// A relay with the books of requests, too, and a test that plays its hooks.
class SuspendedOnLoop : public RelayOnLoop {
 public:
  using RelayOnLoop::RelayOnLoop;

  // Has a request suspended; its id.
  SuspendedId Suspend(Peer& producer, std::string_view list = EncodeList({"async_relay", "ask"})) {
    Feed(producer, list);
    const std::vector<Words> answers = Lists(Receive(producer));
    REQUIRE_FALSE(answers.empty());
    CHECK(answers.back().size() == 3);
    REQUIRE(answers.back()[0] == "suspended");
    return IdOf(answers.back());
  }
  bool Claim(SuspendedId request) { return hub.suspended().Claim(request); }
  // What becomes of the verdict of a hook that has claimed a request.
  void Apply(SuspendedId request, std::string data) {
    Command command;
    command.connection = {4711, 1};  // a subscriber that has gone meanwhile
    command.verdict.Add(action::Resume{request, std::move(data)}, 0);
    hub.Apply(command);
    Pump();
  }
  bool Resume(SuspendedId request, std::string data = "done") {
    if (!Claim(request)) return false;
    Apply(request, std::move(data));
    return true;
  }
  void After(std::chrono::nanoseconds time) {
    AdvanceClock(time);
    Pump();
  }
  // What the producer has been told since the last time.
  std::vector<std::string> Told(Peer& producer) {
    Receive(producer);
    return Answers(std::exchange(producer.received, {}));
  }
};

// Hooks that hear of messages only: "resume INDEX LABEL DATA" is done if it can be; "fail INDEX
// LABEL DATA" likewise, but fails afterwards. They reply "true" or "false".
class ResumingHook final : public Hook {
 public:
  HookOutcome Run(const HookEvent& event, Verdict& verdict) noexcept override {
    if (event.kind != HookEventKind::kMessageReceived) return HookOutcome::kNoRoute;
    const std::string msg(event.msg);
    const std::size_t index = msg.find(' ') + 1;
    const std::size_t label = msg.find(' ', index) + 1;
    const std::size_t data = msg.find(' ', label) + 1;
    const SuspendedId request{static_cast<std::uint32_t>(std::stoul(msg.substr(index))),
                              static_cast<std::uint32_t>(std::stoul(msg.substr(label)))};
    const bool claimed = event.claims->Claim(request);
    if (claimed && msg.starts_with("fail")) {
      event.claims->GiveBack(request);
      return HookOutcome::kError;
    }
    if (claimed) verdict.Add(action::Resume{request, msg.substr(data)}, 0);
    verdict.Add(action::Reply{claimed ? "true" : "false"}, 0);
    return HookOutcome::kDone;
  }
  bool Hears(HookEventKind kind) const noexcept override {
    return kind == HookEventKind::kMessageReceived;
  }
};

std::vector<std::unique_ptr<Hook>> ResumingHooks(std::size_t workers = 1) {
  std::vector<std::unique_ptr<Hook>> hooks;
  while (hooks.size() < workers) hooks.push_back(std::make_unique<ResumingHook>());
  return hooks;
}

// Until the peer has received this much; all of it.
std::string Receives(RelayOnLoop& relay, Peer& peer, std::size_t bytes) {
  CHECK(relay.PumpUntil([&] {
    peer.Read();
    return peer.received.size() >= bytes;
  }));
  return peer.received;
}

std::string Message(std::string_view what, SuspendedId id, std::string_view data) {
  return netstring::Encode(std::string(what) + " " + Text(id) + " " + std::string(data));
}

}  // namespace

TEST_CASE("suspended: a subscriber is asked, a hook resumes, the producer is told") {
  SuspendedOnLoop relay({}, RelayOnLoop::Family::kUnix, ResumingHooks());
  Peer asked = relay.Subscriber();
  Peer other = relay.Subscriber();
  Peer producer = relay.Producer();
  const SuspendedId id = relay.Suspend(
      producer, EncodeList({"async_relay", "{\"i\":$T(id_index),\"l\":$T(id_label)}$T(id_index)"}));
  CHECK(id.index == 0);
  CHECK(id.label != 0);
  const std::string event = netstring::Encode("{\"i\":0,\"l\":" + std::to_string(id.label) + "}0");
  CHECK(relay.Receive(asked) == event);
  CHECK(relay.Receive(other) == event);
  CHECK(relay.hub.suspended().size() == 1);

  // Wrong attempts do nothing; nor does a hook that fails; whoever is right resumes it.
  other.received.clear();
  other.Write(Message("resume", {id.index + 1, id.label}, "x"));
  other.Write(Message("resume", {id.index, id.label ^ 1}, "x"));
  other.Write(Message("resume", {id.index, 0}, "x"));
  CHECK(Receives(relay, other, 24) == "5:false,5:false,5:false,");
  other.Write(Message("fail", id, "x"));
  other.Write(Message("resume", id, "a b"));
  other.Write(Message("resume", id, "c"));
  CHECK(Receives(relay, other, 39) == "5:false,5:false,5:false,4:true,5:false,");
  CHECK(Lists(relay.Receive(producer)) ==
        std::vector<Words>{{"suspended", "0", std::to_string(id.label)},
                           {"resumed", "0", std::to_string(id.label), "a b"}});
  CHECK(relay.counters.requests.accepted[Verb::kAsyncRelay] == 1);
  CHECK(relay.counters.async.resumed == 1);
  CHECK(relay.counters.hook.failed[HookOutcome::kError] == 1);
  CHECK(relay.counters.hook.actions.resume == 1);
  CHECK(relay.hub.suspended().size() == 0);
}

TEST_CASE("suspended: each verb asks whom its brother without async tells") {
  SuspendedOnLoop relay;
  std::vector<Peer> peers;
  for (int i = 0; i < 3; ++i) peers.push_back(relay.Subscriber());
  for (std::uint32_t i = 1; i < 3; ++i) {
    Command command;
    command.connection = {i, 1};
    command.verdict.Add(action::SetTag{"tag"}, 0);
    relay.hub.Apply(command);
  }
  Peer producer = relay.Producer();
  const auto heard = [&] {
    std::vector<bool> all;
    for (Peer& peer : peers) {
      relay.Receive(peer);
      all.push_back(std::exchange(peer.received, {}) == "3:ask,");
    }
    return all;
  };
  const SuspendedId relayed = relay.Suspend(producer);
  CHECK(heard() == std::vector<bool>{true, true, true});
  const SuspendedId multicast =
      relay.Suspend(producer, EncodeList({"async_multicast", "ask", "tag"}));
  CHECK(heard() == std::vector<bool>{false, true, true});
  const SuspendedId unicast = relay.Suspend(producer, EncodeList({"async_unicast", "ask", "tag"}));
  CHECK(heard() == std::vector<bool>{false, true, false});

  // Their answers come as they happen.
  relay.Told(producer);
  CHECK(relay.Resume(unicast, "u"));
  CHECK(relay.Resume(relayed, "r"));
  CHECK(relay.Resume(multicast, "m"));
  CHECK(relay.Told(producer) == Expected{"resumed 2 u", "resumed 0 r", "resumed 1 m"});
  CHECK(relay.counters.requests.accepted[Verb::kAsyncRelay] == 1);
  CHECK(relay.counters.requests.accepted[Verb::kAsyncMulticast] == 1);
  CHECK(relay.counters.requests.accepted[Verb::kAsyncUnicast] == 1);
}

TEST_CASE("suspended: only async verbs fill in the numbers") {
  SuspendedOnLoop relay;
  Peer subscriber = relay.Subscriber();
  Peer producer = relay.Producer();
  relay.Feed(producer, "12:$T(id_index),"s + EncodeList({"relay", "$T(id_label)"}));
  CHECK(relay.Receive(subscriber) == "12:$T(id_index),12:$T(id_label),");
}

TEST_CASE("suspended: without a subscriber to ask nothing is suspended") {
  SuspendedOnLoop relay;
  Peer producer = relay.Producer();
  const std::string requests = EncodeList({"async_relay", "x"}) +
                               EncodeList({"async_multicast", "x", "tag"}) +
                               EncodeList({"async_unicast", "x", "tag"});
  relay.Feed(producer, requests + EncodeList({"multicast", "x", "tag"}) +
                           EncodeList({"unicast", "x", "tag"}) + EncodeList({"relay", "x"}));
  CHECK(relay.Told(producer) == Expected{"error no-subscriber", "error no-subscriber",
                                         "error no-subscriber", "ok 0", "error no-subscriber",
                                         "ok 0"});
  CHECK(relay.counters.requests.errors[ErrorCode::kNoSubscriber] == 4);
  CHECK(relay.counters.requests.accepted.total() == 2);

  // With somebody there who has no such tag: only async_relay is.
  Peer subscriber = relay.Subscriber();
  relay.Feed(producer, requests);
  CHECK(relay.Told(producer) ==
        Expected{"suspended 0", "error no-subscriber", "error no-subscriber"});
  CHECK(relay.Receive(subscriber) == "1:x,");
  CHECK(relay.counters.async.suspended == 1);
  CHECK(relay.counters.events.relayed == 2);

  // The one who was asked has gone: another may still answer.
  subscriber.Close();
  relay.Pump();
  CHECK(relay.hub.suspended().size() == 1);
  relay.After(31s);
  CHECK(relay.Told(producer) == Expected{"expired 0"});
}

TEST_CASE("suspended: requests expire after their own time, or that of async.timeout") {
  Config config;
  config.async.timeout = 10s;
  SuspendedOnLoop relay(config);
  Peer subscriber = relay.Subscriber();
  Peer producer = relay.Producer();
  relay.Suspend(producer, EncodeList({"async_relay", "x", "3600000"}));
  relay.Suspend(producer, EncodeList({"async_relay", "x"}));
  const SuspendedId shortest = relay.Suspend(producer, EncodeList({"async_relay", "x", "1"}));
  relay.Told(producer);
  CHECK(relay.PumpUntil([&] { return relay.counters.async.expired == 1; }));
  CHECK(relay.Told(producer) == Expected{"expired 2"});
  CHECK_FALSE(relay.Resume(shortest));
  relay.config.async.timeout = 2s;  // a reload: for those to come
  relay.Suspend(producer);
  relay.Told(producer);
  relay.After(3s);
  CHECK(relay.Told(producer) == Expected{"expired 2"});
  relay.After(8s);
  CHECK(relay.Told(producer) == Expected{"expired 1"});
  relay.After(3600s - 20s);
  CHECK(relay.Told(producer).empty());
  relay.After(21s);
  CHECK(relay.Told(producer) == Expected{"expired 0"});
  CHECK(relay.counters.async.expired == 4);
}

TEST_CASE("suspended: a claim keeps its request for a second, then the producer is told") {
  SuspendedOnLoop relay;
  Peer subscriber = relay.Subscriber();
  Peer producer = relay.Producer();
  const SuspendedId id = relay.Suspend(producer, EncodeList({"async_relay", "x", "5000"}));
  relay.Told(producer);
  REQUIRE(relay.Claim(id));
  relay.After(5500ms);
  CHECK(relay.Told(producer).empty());
  SECTION("the hook ends in time") {
    relay.Apply(id, "late");
    CHECK(relay.Told(producer) == Expected{"resumed 0 late"});
  }
  SECTION("the hook hangs") {
    relay.After(700ms);
    CHECK(relay.Told(producer) == Expected{"expired 0"});
    relay.Apply(id, "too late");
    CHECK(relay.counters.hook.stale_actions == 1);

    // Not even when the slot has another request meanwhile.
    const SuspendedId next = relay.Suspend(producer);
    CHECK(next.index == id.index);
    CHECK(next.label != id.label);
    relay.Told(producer);
    REQUIRE(relay.Claim(next));
    relay.Apply(id, "much too late");
    CHECK(relay.Told(producer).empty());
    relay.Apply(next, "good");
    CHECK(relay.Told(producer) == Expected{"resumed 0 good"});
  }
  relay.After(1h);
  CHECK(relay.Told(producer).empty());
  CHECK(relay.hub.suspended().size() == 0);
}

TEST_CASE("suspended: one producer has a quarter of max_suspended, all have the whole") {
  Config config;
  config.async.max_suspended = 8;
  SuspendedOnLoop relay(config);
  Peer subscriber = relay.Subscriber();
  std::vector<Peer> producers;
  for (int i = 0; i < 5; ++i) producers.push_back(relay.Producer());
  const std::string request = EncodeList({"async_relay", "x", "60000"});
  for (int i = 0; i < 4; ++i) {
    relay.Feed(producers[i], request + request + request + EncodeList({"ping"}));
    const std::string first = std::to_string(2 * i);
    const std::string second = std::to_string(2 * i + 1);
    CHECK(relay.Told(producers[i]) ==
          Expected{"suspended " + first, "suspended " + second, "error overloaded", "ok"});
  }
  CHECK(relay.hub.suspended().size() == 8);
  relay.Feed(producers[4], request);
  CHECK(relay.Told(producers[4]) == Expected{"error overloaded"});
  CHECK(relay.counters.requests.errors[ErrorCode::kOverloaded] == 5);
  // What was refused was not relayed.
  CHECK(relay.counters.events.relayed == 8);

  // A place that becomes free is there for others.
  producers[0].Close();
  relay.Pump();
  CHECK(relay.counters.async.abandoned == 2);
  relay.Feed(producers[4], request);
  CHECK(Lists(relay.Receive(producers[4])).back()[0] == "suspended");
  relay.Feed(producers[1], request);
  CHECK(relay.Told(producers[1]) == Expected{"error overloaded"});
  relay.After(61s);
  relay.Told(producers[1]);
  relay.Feed(producers[1], request);
  CHECK(Lists(relay.Receive(producers[1])).back()[0] == "suspended");
}

TEST_CASE("suspended: the share is one at least") {
  Config config;
  config.async.max_suspended = GENERATE(1U, 2U, 3U, 7U);
  SuspendedOnLoop relay(config);
  Peer subscriber = relay.Subscriber();
  Peer producer = relay.Producer();
  const std::string request = EncodeList({"async_relay", "x"});
  relay.Feed(producer, request + request);
  CHECK(relay.Told(producer) == Expected{"suspended 0", "error overloaded"});
  Peer other = relay.Producer();
  relay.Feed(other, request);
  CHECK(relay.Told(other) ==
        Expected{config.async.max_suspended == 1 ? "error overloaded" : "suspended 1"});
}

TEST_CASE("suspended: a producer that has gone is waited for by nobody") {
  SuspendedOnLoop relay;
  Peer subscriber = relay.Subscriber();
  Peer producer = relay.Producer();
  Peer other = relay.Producer();
  const SuspendedId first = relay.Suspend(producer);
  const SuspendedId second = relay.Suspend(producer);
  const SuspendedId kept = relay.Suspend(other);
  const SuspendedId claimed = relay.Suspend(producer);
  REQUIRE(relay.Claim(claimed));
  CloseReason reason = CloseReason::kEof;
  SECTION("closed") { producer.Close(); }
  SECTION("closed with an answer unread") {
    relay.Feed(producer, EncodeList({"ping"}));
    producer.Close();
    reason = CloseReason::kReset;
  }
  SECTION("half, then wholly") {
    producer.EndWriting();
    relay.Pump();
    CHECK(relay.producers.connections() == 2);
    CHECK(relay.hub.suspended().size() == 4);
    producer.Close();
  }
  SECTION("half, then wholly with an answer unread") {
    producer.EndWriting();
    relay.Pump();
    REQUIRE(relay.Resume(relay.Suspend(other, EncodeList({"async_relay", "x"}))));
    REQUIRE(relay.Resume(first));
    CHECK(relay.counters.async.resumed == 2);
    producer.Close();
    relay.Pump();
    CHECK(relay.producers.connections() == 1);
    CHECK(relay.counters.async.abandoned == 2);
    CHECK(relay.counters.requests.undeliverable == 2);
    return;
  }
  SECTION("after a protocol error") {
    relay.Feed(producer, "x");
    CHECK(relay.producers.connections() == 2);
    producer.Close();
    reason = CloseReason::kBadSize;
  }
  relay.Pump();
  CHECK(relay.producers.connections() == 1);
  CHECK(relay.counters.producers.closed[reason] == 1);
  CHECK(relay.counters.async.abandoned == 3);
  CHECK(relay.counters.requests.undeliverable == 3);
  CHECK(relay.hub.suspended().size() == 1);
  CHECK_FALSE(relay.Claim(first));
  CHECK_FALSE(relay.Claim(second));
  CHECK_FALSE(relay.Claim(claimed));
  relay.Apply(claimed, "nobody hears it");
  CHECK(relay.counters.hook.stale_actions == 1);
  CHECK(relay.Resume(kept));
  CHECK(relay.Told(other) == Expected{"suspended 2", "resumed 2 done"});
  relay.After(1h);
  CHECK(relay.counters.async.expired == 0);
}

TEST_CASE("suspended: who has ended its side is told all, then comes the end") {
  SuspendedOnLoop relay;
  Peer subscriber = relay.Subscriber();
  Peer producer = relay.Producer();
  producer.Write(EncodeList({"async_relay", "x"}) + EncodeList({"async_relay", "y", "8000"}) +
                 EncodeList({"ping"}));
  producer.EndWriting();
  relay.Receive(producer);
  const std::vector<Words> answers = Lists(producer.received);
  CHECK(relay.Told(producer) == Expected{"suspended 0", "suspended 1", "ok"});
  CHECK(producer.end == Peer::End::kNone);
  CHECK(relay.counters.producers.closed[CloseReason::kEof] == 1);
  // It has as long as they have.
  relay.After(7s);
  CHECK(relay.producers.connections() == 1);
  CHECK(producer.end == Peer::End::kNone);
  relay.After(2s);
  CHECK(relay.Told(producer) == Expected{"expired 1"});
  CHECK(producer.end == Peer::End::kNone);
  relay.After(7s);
  CHECK(relay.Resume(IdOf(answers[0])));
  CHECK(relay.Told(producer) == Expected{"resumed 0 done"});
  CHECK(producer.end == Peer::End::kEof);
  CHECK(relay.producers.connections() == 0);
  CHECK(relay.counters.requests.undeliverable == 0);
  CHECK(relay.counters.producers.closed.total() == 1);
}

TEST_CASE("suspended: a protocol error lets them come to their ends") {
  SuspendedOnLoop relay;
  Peer subscriber = relay.Subscriber();
  Peer producer = relay.Producer();
  const SuspendedId id = relay.Suspend(producer);
  relay.Feed(producer, "x" + EncodeList({"async_relay", "never"}));
  CHECK(relay.Told(producer) == Expected{"suspended 0", "error bad-size"});
  CHECK(producer.end == Peer::End::kNone);
  const bool ends = GENERATE(false, true);
  if (ends) producer.EndWriting();
  relay.After(7s);  // longer than a closing one has otherwise
  relay.Feed(producer, ends ? "" : "5:never,");
  CHECK(relay.producers.connections() == 1);
  CHECK(relay.Resume(id));
  CHECK(relay.Told(producer) == Expected{"resumed 0 done"});
  CHECK(producer.end == Peer::End::kEof);
  CHECK(relay.producers.connections() == (ends ? 0 : 1));
  CHECK(relay.Receive(subscriber) == "3:ask,");
  CHECK(relay.counters.producers.closed[CloseReason::kBadSize] == 1);
  CHECK(relay.counters.producers.closed.total() == 1);
  relay.After(6s);
  CHECK(relay.producers.connections() == 0);
}

TEST_CASE("suspended: who ends within a frame is told all, too") {
  SuspendedOnLoop relay;
  Peer subscriber = relay.Subscriber();
  Peer producer = relay.Producer();
  const SuspendedId id = relay.Suspend(producer);
  relay.Feed(producer, "5:hel");
  producer.EndWriting();
  relay.Pump();
  CHECK(relay.Told(producer) == Expected{"suspended 0", "error truncated"});
  CHECK(relay.Resume(id));
  CHECK(relay.Told(producer) == Expected{"resumed 0 done"});
  CHECK(producer.end == Peer::End::kEof);
  CHECK(relay.producers.connections() == 0);
}

TEST_CASE("suspended: the last answer is waited for no longer than other answers") {
  SuspendedOnLoop relay;
  Peer subscriber = relay.Subscriber();
  Peer producer = relay.Producer();
  const SuspendedId first = relay.Suspend(producer);
  const SuspendedId last = relay.Suspend(producer);
  producer.EndWriting();
  relay.Pump();
  CHECK(relay.Resume(first, std::string(1024 * 1024, 'x')));  // more than the socket takes
  relay.After(20s);                                           // as something is suspended
  CHECK(relay.Resume(last));
  relay.After(4s);
  CHECK(relay.producers.connections() == 1);
  SECTION("it reads, slowly") {
    for (int i = 0; i < 3; ++i) {
      const std::size_t before = producer.received.size();
      producer.Read(250'000);
      CHECK(producer.received.size() > before);
      relay.Pump();
      relay.After(4s);
      CHECK(relay.producers.connections() == 1);
    }
    CHECK(relay.PumpUntil([&] {
      producer.Read();
      return producer.end != Peer::End::kNone;
    }));
    CHECK(producer.end == Peer::End::kEof);
    const std::vector<Words> answers = Lists(producer.received);
    REQUIRE(answers.size() == 4);
    CHECK(answers[2][3].size() == 1024 * 1024);
    CHECK(answers[3][3] == "done");
    CHECK(relay.counters.requests.undeliverable == 0);
  }
  SECTION("it does not") {
    relay.After(2s);
    CHECK(relay.counters.requests.undeliverable == 2);
  }
  CHECK(relay.producers.connections() == 0);
}

TEST_CASE("suspended: a drain ends each with an answer that names it") {
  SuspendedOnLoop relay;
  Peer subscriber = relay.Subscriber();
  Peer producer = relay.Producer();
  Peer ended = relay.Producer();
  Peer broken = relay.Producer();
  std::vector<SuspendedId> ids{relay.Suspend(producer), relay.Suspend(producer),
                               relay.Suspend(ended), relay.Suspend(broken)};
  ended.EndWriting();
  relay.Feed(broken, "x");
  relay.Told(producer);
  relay.Told(ended);
  relay.Told(broken);
  REQUIRE(relay.Claim(ids[1]));
  producer.Write(EncodeList({"async_relay", "late"}) + "4:last,");
  relay.Drain();
  relay.Pump();

  relay.Receive(producer);
  const std::vector<Words> answers = Lists(producer.received);
  REQUIRE(answers.size() == 3);
  CHECK(Answers(EncodeList({answers[0][0], answers[0][1], answers[0][2]})) ==
        Expected{"error draining"});
  for (std::size_t i = 1; i < 3; ++i) {
    REQUIRE(answers[i].size() == 4);
    CHECK(answers[i][0] == "error");
    CHECK(answers[i][1] == "draining");
  }
  const std::vector<SuspendedId> told{IdOf(answers[1], 2), IdOf(answers[2], 2)};
  CHECK(((told == std::vector{ids[0], ids[1]}) || (told == std::vector{ids[1], ids[0]})));
  CHECK(producer.end == Peer::End::kEof);
  CHECK(relay.Told(ended) == Expected{"error draining 2"});
  CHECK(ended.end == Peer::End::kEof);
  CHECK(relay.Told(broken) == Expected{"error draining 3"});
  CHECK(broken.end == Peer::End::kEof);
  CHECK(relay.producers.connections() == 0);

  CHECK(relay.hub.suspended().size() == 0);
  CHECK(relay.counters.async.drained == 4);
  CHECK(relay.counters.requests.errors[ErrorCode::kDraining] == 5);
  CHECK(relay.counters.requests.undeliverable == 0);
  relay.Apply(ids[1], "too late");
  CHECK(relay.counters.hook.stale_actions == 1);
  for (const SuspendedId id : ids) CHECK_FALSE(relay.Claim(id));
  CHECK(relay.Receive(subscriber) == "3:ask,3:ask,3:ask,3:ask,4:last,");
}

TEST_CASE("suspended: a producer that does not read its final answers is closed above 4 MiB") {
  SuspendedOnLoop relay;
  Peer subscriber = relay.Subscriber();
  Peer producer = relay.Producer();
  std::vector<SuspendedId> ids;
  for (int i = 0; i < 8; ++i) ids.push_back(relay.Suspend(producer));
  relay.Told(producer);
  const std::string data(1024 * 1024, 'x');
  for (int i = 0; i < 4; ++i) CHECK(relay.Resume(ids[i], data));
  // Its requests are not heard now, but it lives.
  relay.Feed(producer, EncodeList({"ping"}));
  CHECK(relay.counters.requests.accepted[Verb::kPing] == 0);
  CHECK(relay.producers.connections() == 1);

  SECTION("it reads") {
    CHECK(relay.PumpUntil([&] {
      producer.Read();
      return relay.counters.requests.accepted[Verb::kPing] == 1;
    }));
    relay.Receive(producer);
    const std::vector<Words> answers = Lists(producer.received);
    REQUIRE(answers.size() == 5);
    for (std::size_t i = 0; i < 4; ++i) {
      CHECK(answers[i][0] == "resumed");
      CHECK(IdOf(answers[i]) == ids[i]);
      CHECK((answers[i][3] == data));
    }
    CHECK(answers[4] == Words{"ok"});
    CHECK(relay.counters.requests.undeliverable == 0);
    CHECK(relay.Resume(ids[4]));
  }
  SECTION("it does not") {
    CHECK(relay.Resume(ids[4], data));
    CHECK(relay.counters.producers.closed[CloseReason::kSlowProducer] == 1);
    CHECK(relay.producers.connections() == 0);
    // Of five answers the first may stand in the socket; three were still to come.
    CHECK(relay.counters.async.abandoned == 3);
    CHECK(relay.counters.async.resumed == 5);
    CHECK(relay.counters.requests.undeliverable == 8);
    CHECK_FALSE(relay.Resume(ids[5]));
  }
  SECTION("it has ended its side, and does not") {
    producer.EndWriting();
    relay.Pump();
    CHECK(relay.Resume(ids[4], data));
    CHECK(relay.producers.connections() == 0);
    CHECK(relay.counters.async.abandoned == 3);
    CHECK(relay.counters.requests.undeliverable == 8);
  }
}

TEST_CASE("suspended: slots go from producer to producer") {
  SuspendedOnLoop relay;
  Peer subscriber = relay.Subscriber();
  Peer one = relay.Producer();
  Peer two = relay.Producer();
  const SuspendedId first = relay.Suspend(one);
  CHECK(relay.Resume(first));
  const SuspendedId second = relay.Suspend(two);
  CHECK(second.index == first.index);
  CHECK(second.label != first.label);
  one.Close();
  relay.Pump();
  CHECK(relay.counters.async.abandoned == 0);
  CHECK_FALSE(relay.Resume(first));
  CHECK(relay.Resume(second));
  CHECK(relay.Told(two) == Expected{"suspended 0", "resumed 0 done"});
  CHECK(relay.counters.requests.undeliverable == 0);
}

TEST_CASE("suspended: a hundred at a time, continued in any order") {
  SuspendedOnLoop relay;
  Peer subscriber = relay.Subscriber();
  Peer producer = relay.Producer();
  std::string requests;
  for (int i = 0; i < 100; ++i) requests += EncodeList({"async_relay", "$T(id_index)"});
  relay.Feed(producer, requests);
  std::vector<SuspendedId> ids;
  for (const Words& words : Lists(relay.Receive(producer))) ids.push_back(IdOf(words));
  REQUIRE(ids.size() == 100);
  relay.Told(producer);
  std::shuffle(ids.begin(), ids.end(), std::mt19937(1));
  Expected expected;
  for (const SuspendedId id : ids) {
    CHECK(relay.Resume(id, Text(id)));
    expected.push_back("resumed " + std::to_string(id.index) + " " + Text(id));
  }
  CHECK(relay.Told(producer) == expected);
}

TEST_CASE("suspended: without netstrings, too") {
  Config config;
  config.netstring_format = false;
  SuspendedOnLoop relay(config);
  Peer subscriber = relay.Subscriber();
  Peer producer = relay.Producer();
  const SuspendedId id =
      relay.Suspend(producer, EncodeList({"async_relay", "<$T(id_index) $T(id_label)>"}));
  CHECK(relay.Receive(subscriber) == "<" + Text(id) + ">");
  CHECK(relay.Resume(id));
}

namespace {

// The whole frames at the start of what the peer has received, from `at` on; moves it behind them.
std::vector<std::string> NewFrames(const Peer& peer, std::size_t& at) {
  std::vector<std::string> frames;
  while (true) {
    const netstring::Decoded frame = netstring::Decode(std::string_view(peer.received).substr(at),
                                                       {.data = UINT32_MAX, .list = UINT32_MAX});
    if (frame.status != netstring::Status::kFrame) return frames;
    frames.emplace_back(frame.payload);
    at += frame.consumed;
  }
}

// Answers each event that it hears, "INDEX LABEL", some of them twice or wrongly.
class Answerer {
 public:
  Answerer(Peer peer, unsigned seed) : peer_(std::move(peer)), random_(seed) {}

  void Turn() {
    peer_.Read();
    for (const std::string& event : NewFrames(peer_, heard_)) {
      if (event == "true" || event == "false") continue;
      Say((random_() % 4 == 0 ? "fail " : "resume ") + event + " x");
      if (random_() % 4 == 0) Say("resume " + event + " again");
      if (random_() % 4 == 0) Say("resume " + event + "0 forged");
    }
    to_say_.erase(0, peer_.Write(to_say_));
  }
  void Say(const std::string& message) { netstring::Append(to_say_, message); }
  bool idle() const { return to_say_.empty(); }

 private:
  Peer peer_;
  std::size_t heard_ = 0;  // bytes
  std::string to_say_;
  std::mt19937 random_;
};

// Asks, and keeps the books of what it is told: request → final answers.
class Asker {
 public:
  explicit Asker(Peer producer) : peer(std::move(producer)) {}

  void Turn() {
    peer.Read();
    for (const std::string& payload : NewFrames(peer, told_)) {
      std::vector<std::string_view> words;
      REQUIRE(netstring::DecodeList(payload, words));
      REQUIRE(words.size() >= 3);
      const std::string id = std::string(words[1]) + " " + std::string(words[2]);
      if (words[0] == "suspended") {
        CHECK(finals.emplace(id, 0).second);
      } else {
        CHECK(((words[0] == "resumed") || (words[0] == "expired")));
        REQUIRE(finals.count(id) == 1);
        CHECK(++finals[id] == 1);
      }
    }
  }

  Peer peer;
  std::map<std::string, int> finals;

 private:
  std::size_t told_ = 0;  // bytes
};

}  // namespace

// Four workers, subscribers that answer doubly and wrongly, hooks that fail, timeouts, a producer
// that goes: each request that was suspended ends once.
TEST_CASE("suspended: whatever happens, exactly one final answer each") {
  constexpr std::size_t kEach = 600;
  Config config;
  config.workers = 4;
  SuspendedOnLoop relay(config, RelayOnLoop::Family::kUnix, ResumingHooks(config.workers));
  std::vector<Answerer> subscribers;
  for (unsigned i = 0; i < 3; ++i) subscribers.emplace_back(relay.Subscriber(), i);
  std::vector<Asker> producers;
  for (int i = 0; i < 3; ++i) producers.emplace_back(relay.Producer());

  std::mt19937 random(7);
  for (Asker& producer : producers) {
    std::string requests;
    for (std::size_t i = 0; i < kEach; ++i) {
      requests += EncodeList({"async_relay", "$T(id_index) $T(id_label)",
                              random() % 3 == 0 ? std::to_string(1 + random() % 20) : "3600000"});
    }
    REQUIRE(producer.peer.Write(requests) == requests.size());
  }
  const auto& async = relay.counters.async;
  // Until nothing more comes of what has been said.
  const auto quiet = [&] {
    bool idle = true;
    for (Answerer& subscriber : subscribers) {
      subscriber.Turn();
      idle = idle && subscriber.idle();
    }
    for (Asker& producer : producers) producer.Turn();
    if (producers.size() == 3 && async.resumed > 100) producers.pop_back();
    return idle && producers.size() == 2 && producers[0].finals.size() == kEach &&
           producers[1].finals.size() == kEach && relay.counters.messages.unhandled == 0;
  };
  REQUIRE(relay.PumpUntil(quiet));
  // Those for which all hooks have failed, and whose time is not over, get one more chance.
  for (const Asker& producer : producers) {
    for (const auto& [id, finals] : producer.finals) {
      if (finals == 0) subscribers[0].Say("resume " + id + " at last");
    }
  }
  REQUIRE(relay.PumpUntil([&] { return quiet() && relay.hub.suspended().size() == 0; }));
  relay.Pump();
  quiet();

  for (const Asker& producer : producers) {
    for (const auto& [id, finals] : producer.finals) {
      CAPTURE(id);
      CHECK(finals == 1);
    }
  }
  CHECK(async.suspended >= 2 * kEach);
  CHECK(async.expired > 0);
  CHECK(async.suspended == async.resumed + async.expired + async.abandoned);
  CHECK(relay.counters.hook.failed[HookOutcome::kError] > 0);
}

}  // namespace evrelay
