// evrelay/producer.h against a relay that does what the test says. What the relay says is mostly
// written before the client asks: it reads an answer only after the request has been posted.

#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <chrono>
#include <future>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "evrelay/producer.h"
#include "support/catch.h"
#include "unit/client/fake_relay.h"
#include "unit/system/environment.h"

using evrelay::ProducerClient;
using evrelay::Variable;
using evrelay::netstring::Encode;
using evrelay::netstring::EncodeList;
using evrelay::testing::FakeRelay;
using evrelay::testing::Peer;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

using Items = std::vector<std::string>;
using Outcome = ProducerClient::Outcome;

struct Connected {
  FakeRelay relay;
  ProducerClient client{relay.path()};
  Peer peer{relay.Accept()};
};

// These are called on other threads, too, where nothing may be checked.

// The code and the message of the system_error that `call` throws.
template <class Call>
std::pair<std::errc, std::string> SystemErrorOf(Call call) {
  try {
    call();
  } catch (const std::system_error& error) {
    if (error.code().category() != std::generic_category()) return {std::errc(), "not generic"};
    return {static_cast<std::errc>(error.code().value()), error.what()};
  }
  return {std::errc(), "nothing thrown"};
}

template <class Call>
std::errc CodeOf(Call call) {
  return SystemErrorOf(call).first;
}

// "CODE|TEXT" of the answer that `call` throws.
template <class Call>
std::string AnswerErrorOf(Call call) {
  try {
    call();
  } catch (const ProducerClient::Error& error) {
    const bool told = error.what() == error.code() + ": " + error.text();
    return told ? error.code() + "|" + error.text() : "told as " + std::string(error.what());
  }
  return "nothing thrown";
}

}  // namespace

TEST_CASE("producer client: Send writes a data frame and waits for nothing") {
  Connected c;
  c.client.Send("hello");
  c.client.Send(std::string_view("\0:,", 3));
  const std::string wire = "5:hello," + Encode(std::string_view("\0:,", 3));
  CHECK(c.peer.Read(wire.size()) == wire);
}

TEST_CASE("producer client: Send refuses an empty event, which would be a keepalive") {
  Connected c;
  CHECK(AnswerErrorOf([&] { c.client.Send(""); }) == "bad-arguments|evdata is empty");
  c.client.Send("next");
  CHECK(c.peer.Read(7) == "4:next,");
}

TEST_CASE("producer client: Relay and Multicast return the number of subscribers") {
  Connected c;
  c.peer.Answer({"ok", "3"});
  CHECK(c.client.Relay("a") == 3);
  c.peer.Answer({"ok", "0"});
  CHECK(c.client.Multicast("b", "tag") == 0);
  const std::string wire = EncodeList({"relay", "a"}) + EncodeList({"multicast", "b", "tag"});
  CHECK(c.peer.Read(wire.size()) == wire);
}

TEST_CASE("producer client: Unicast says whether a subscriber has the tag") {
  Connected c;
  c.peer.Answer({"ok", "1"});
  CHECK(c.client.Unicast("a", "tag"));
  c.peer.Answer({"error", "no-subscriber", "nobody"});
  CHECK_FALSE(c.client.Unicast("b", "tag"));
  c.peer.Answer({"error", "bad-arguments", "etag is empty"});
  CHECK(AnswerErrorOf([&] { c.client.Unicast("c", ""); }) == "bad-arguments|etag is empty");
  const std::string wire = EncodeList({"unicast", "a", "tag"}) +
                           EncodeList({"unicast", "b", "tag"}) + EncodeList({"unicast", "c", ""});
  CHECK(c.peer.Read(wire.size()) == wire);
}

TEST_CASE("producer client: an error answer is thrown, and all goes on") {
  Connected c;
  c.peer.Answer({"error", "too-big", "evdata has 9 bytes"});
  CHECK(AnswerErrorOf([&] { c.client.Relay("a"); }) == "too-big|evdata has 9 bytes");
  c.peer.Answer({"ok"});
  c.client.Ping();
  const std::string wire = EncodeList({"relay", "a"}) + "7:4:ping,]";
  CHECK(c.peer.Read(wire.size()) == wire);
}

TEST_CASE("producer client: async requests carry their timeout and return their numbers") {
  Connected c;
  c.peer.Answer({"suspended", "0", "4294967295"});
  const ProducerClient::Suspended first = c.client.AsyncRelay("a");
  CHECK(first == ProducerClient::Suspended{0, 4294967295});
  c.peer.Answer({"suspended", "17", "1"});
  CHECK(c.client.AsyncMulticast("b", "tag", milliseconds(1500)).index == 17);
  c.peer.Answer({"suspended", "18", "2"});
  CHECK(c.client.AsyncUnicast("c", "tag", hours(1)) != first);
  c.peer.Answer({"error", "no-subscriber", "nobody"});
  CHECK(AnswerErrorOf([&] { c.client.AsyncRelay("d", seconds(2)); }) == "no-subscriber|nobody");
  const std::string wire = EncodeList({"async_relay", "a"}) +
                           EncodeList({"async_multicast", "b", "tag", "1500"}) +
                           EncodeList({"async_unicast", "c", "tag", "3600000"}) +
                           EncodeList({"async_relay", "d", "2000"});
  CHECK(c.peer.Read(wire.size()) == wire);
}

TEST_CASE("producer client: final answers come in any order and between others") {
  Connected c;
  const std::string data("yes\0:,", 6);
  c.peer.Write(EncodeList({"suspended", "1", "11"}) + EncodeList({"expired", "0", "10"}) +
               EncodeList({"resumed", "1", "11", data}));
  const ProducerClient::Suspended asked = c.client.AsyncRelay("a");
  c.peer.Write(EncodeList({"error", "draining", "2", "12"}) + EncodeList({"ok", "1"}) +
               EncodeList({"resumed", "3", "13", ""}));
  CHECK(c.client.Relay("b") == 1);

  SECTION("any: as they came") {
    std::vector<std::uint32_t> labels;
    std::vector<Outcome> outcomes;
    for (int i = 0; i < 4; ++i) {
      const auto answer = c.client.WaitFinal(seconds(20));
      REQUIRE(answer);
      labels.push_back(answer->request.label);
      outcomes.push_back(answer->outcome);
    }
    CHECK(labels == std::vector<std::uint32_t>{10, 11, 12, 13});
    CHECK(outcomes ==
          std::vector{Outcome::kExpired, Outcome::kResumed, Outcome::kDraining, Outcome::kResumed});
  }
  SECTION("a given one, the others stay") {
    const auto answer = c.client.WaitFinal(asked, seconds(20));
    REQUIRE(answer);
    CHECK(answer->request == asked);
    CHECK(answer->outcome == Outcome::kResumed);
    CHECK(answer->data == data);
    CHECK_FALSE(c.client.WaitFinal(asked, milliseconds(0)));
    CHECK(c.client.WaitFinal(seconds(20))->request.label == 10);
    CHECK(c.client.WaitFinal({3, 13}, seconds(20))->data.empty());
    CHECK(c.client.WaitFinal({2, 12}, seconds(20))->outcome == Outcome::kDraining);
  }
  SECTION("the same slot with another label is another request") {
    CHECK_FALSE(c.client.WaitFinal({1, 12}, milliseconds(0)));
  }
}

TEST_CASE("producer client: WaitFinal looks without waiting, or waits as long as is said") {
  Connected c;
  CHECK_FALSE(c.client.WaitFinal(milliseconds(0)));
  CHECK_FALSE(c.client.WaitFinal(milliseconds(-1)));
  const auto before = std::chrono::steady_clock::now();
  CHECK_FALSE(c.client.WaitFinal({0, 1}, milliseconds(20)));
  CHECK(std::chrono::steady_clock::now() - before >= milliseconds(20));
}

TEST_CASE("producer client: a large answer comes in pieces") {
  Connected c;
  const std::string data(3'000'000, 'x');
  auto answer =
      std::async(std::launch::async, [&] { return c.client.WaitFinal(milliseconds::max()); });
  c.peer.Answer({"resumed", "0", "1", data});
  const auto got = answer.get();
  REQUIRE(got);
  CHECK(got->data == data);
}

TEST_CASE("producer client: an answer in single bytes") {
  Connected c;
  auto count = std::async(std::launch::async, [&] { return c.client.Relay("a"); });
  for (const char byte : EncodeList({"ok", "12345678901"})) c.peer.Write({&byte, 1});
  CHECK(count.get() == 12345678901);
}

TEST_CASE("producer client: posted requests are answered in order") {
  Connected c;
  for (const char* event : {"a", "b", "c", "d"}) c.client.Post({"relay", event});
  c.peer.Write(EncodeList({"ok", "1"}) + EncodeList({"error", "overloaded", "later"}) +
               EncodeList({"resumed", "0", "1", "x"}) + EncodeList({"ok", "3"}));
  CHECK(c.client.ReadAnswer() == Items{"ok", "1"});
  CHECK(AnswerErrorOf([&] { c.client.ReadAnswer(); }) == "overloaded|later");
  CHECK(c.client.ReadAnswer() == Items{"ok", "3"});

  // A call with an answer of its own leaves those that are open to be read.
  c.peer.Write(EncodeList({"ok", "4"}) + EncodeList({"ok", "5"}));
  CHECK(c.client.Relay("e") == 5);
  CHECK(c.client.ReadAnswer() == Items{"ok", "4"});
  CHECK_THROWS_AS(c.client.ReadAnswer(), std::logic_error);
  CHECK(c.client.WaitFinal(milliseconds(0))->data == "x");
}

TEST_CASE("producer client: nothing deadlocks when the buffers of both sides are full") {
  Connected c;
  constexpr int kRequests = 64;
  const std::string event(64 * 1024, 'e');
  const std::string number(64 * 1024, '1');
  const std::string request = EncodeList({"relay", event});
  // The peer takes a request only when its answer to the one before has been taken.
  auto peer = std::async(std::launch::async, [&] {
    bool same = true;
    for (int i = 0; i < kRequests; ++i) {
      same = c.peer.Read(request.size()) == request && same;
      c.peer.Answer({"ok", number});
    }
    return same;
  });
  for (int i = 0; i < kRequests; ++i) c.client.Post({"relay", event});
  for (int i = 0; i < kRequests; ++i) CHECK(c.client.ReadAnswer()[1].size() == number.size());
  CHECK(peer.get());
}

TEST_CASE("producer client: whoever only sends has no answers pile up") {
  FakeRelay relay;
  std::optional<ProducerClient> client(relay.path());
  Peer peer = relay.Accept();
  // More than the socket holds, so they are all written only when the client reads.
  constexpr std::uint32_t kAnswers = 50'000;
  std::atomic<bool> done = false;
  auto answers = std::async(std::launch::async, [&] {
    for (std::uint32_t i = 0; i < kAnswers; ++i) peer.Answer({"expired", std::to_string(i), "1"});
    done = true;
  });
  auto events = std::async(std::launch::async, [&] { return peer.ReadAll(); });
  while (!done) client->Send("x");
  for (std::uint32_t i = 0; i < kAnswers; ++i) {
    const auto answer = client->WaitFinal(seconds(20));
    REQUIRE(answer);
    REQUIRE(answer->request.index == i);
  }
  client.reset();
  CHECK(events.get().size() % 4 == 0);
}

TEST_CASE("producer client: a write that does not fit is continued") {
  Connected c;
  const std::string event(8'000'000, 'x');
  auto sent = std::async(std::launch::async, [&] { c.client.Send(event); });
  const std::string wire = Encode(event);
  CHECK(c.peer.Read(wire.size()) == wire);
  sent.get();
}

TEST_CASE("producer client: signals do not disturb") {
  static std::atomic<int> heard;
  heard = 0;
  struct sigaction handle {};
  struct sigaction before {};
  handle.sa_handler = [](int) { ++heard; };  // no SA_RESTART
  ::sigaction(SIGUSR1, &handle, &before);

  Connected c;
  const std::string event(1'000'000, 'x');
  const std::string wire = EncodeList({"relay", event});
  std::promise<pthread_t> thread;
  auto count = std::async(std::launch::async, [&] {
    thread.set_value(::pthread_self());
    return c.client.Relay(event);
  });
  const pthread_t client = thread.get_future().get();
  const auto disturb = [&] {
    for (int i = 0; i < 100; ++i) {
      const int was = heard;
      ::pthread_kill(client, SIGUSR1);
      while (heard == was) std::this_thread::yield();
    }
  };
  disturb();  // it writes
  CHECK(c.peer.Read(wire.size()) == wire);
  disturb();  // it reads
  c.peer.Answer({"ok", "1"});
  CHECK(count.get() == 1);
  ::sigaction(SIGUSR1, &before, nullptr);
}

TEST_CASE("producer client: the relay's end is an error of the system, not a signal") {
  Connected c;
  SECTION("while an answer is waited for") {
    auto end =
        std::async(std::launch::async, [&] { return SystemErrorOf([&] { c.client.Ping(); }); });
    CHECK(c.peer.Read(10) == "7:4:ping,]");
    c.peer.Close();
    CHECK(end.get() ==
          std::pair(std::errc::connection_reset, "the relay has closed the connection: " +
                                                     std::generic_category().message(ECONNRESET)));
  }
  SECTION("in the middle of an answer") {
    c.peer.Write("9:2:ok");
    c.peer.FinishWriting();
    CHECK(CodeOf([&] { c.client.Ping(); }) == std::errc::connection_reset);
  }
  SECTION("while a final answer is waited for") {
    c.peer.FinishWriting();
    CHECK(CodeOf([&] { c.client.WaitFinal(seconds(20)); }) == std::errc::connection_reset);
  }
  SECTION("with a write that does not fit") {
    auto end = std::async(std::launch::async, [&] {
      return CodeOf([&] { c.client.Send(std::string(8'000'000, 'x')); });
    });
    CHECK(c.peer.Read(8) == "8000000:");
    c.peer.Close();
    CHECK(end.get() == std::errc::connection_reset);
  }
  CHECK(CodeOf([&] { c.client.Send("x"); }) == std::errc::connection_reset);
  CHECK(CodeOf([&] { c.client.Relay("x"); }) == std::errc::connection_reset);
}

TEST_CASE("producer client: what came before the end can still be had") {
  Connected c;
  c.client.Post({"relay", "a"});
  c.client.Post({"relay", "b"});
  c.client.Post({"relay", "c"});
  c.peer.Write(EncodeList({"ok", "1"}) + EncodeList({"expired", "0", "1"}) +
               EncodeList({"error", "too-big", "no"}));
  c.peer.Close();
  CHECK(CodeOf([&] { c.client.Send("x"); }) == std::errc::connection_reset);
  CHECK(CodeOf([&] { c.client.Post({"ping"}); }) == std::errc::connection_reset);
  CHECK(c.client.ReadAnswer() == Items{"ok", "1"});
  CHECK(AnswerErrorOf([&] { c.client.ReadAnswer(); }) == "too-big|no");
  CHECK(CodeOf([&] { c.client.ReadAnswer(); }) == std::errc::connection_reset);
  CHECK(c.client.WaitFinal(seconds(20))->outcome == Outcome::kExpired);
  CHECK(CodeOf([&] { c.client.WaitFinal(seconds(20)); }) == std::errc::connection_reset);
}

TEST_CASE("producer client: what the relay has against an event is thrown by a later call") {
  Connected c;
  c.client.Send("a");
  c.peer.Answer({"error", "forbidden", "producer.allow denies relay to this peer"});
  c.peer.FinishWriting();
  const std::string why = "forbidden|producer.allow denies relay to this peer";
  SECTION("Send") {}
  SECTION("WaitFinal") {
    CHECK(AnswerErrorOf([&] { c.client.WaitFinal(seconds(20)); }) == why);
  }
  SECTION("Ping, which has taken it for its answer") {
    CHECK(AnswerErrorOf([&] { c.client.Ping(); }) == why);
    CHECK(CodeOf([&] { c.client.Ping(); }) == std::errc::connection_reset);
    return;
  }
  CHECK(AnswerErrorOf([&] { c.client.Send("b"); }) == why);
  CHECK(AnswerErrorOf([&] { c.client.Ping(); }) == why);
}

TEST_CASE("producer client: a request may be refused before all of it is written") {
  Connected c;
  const std::string event(8'000'000, 'x');
  auto error =
      std::async(std::launch::async, [&] { return AnswerErrorOf([&] { c.client.Relay(event); }); });
  CHECK(c.peer.Read(8) == "8000017:");
  c.peer.Answer({"error", "too-big", "the frame's SIZE is over max_event"});
  SECTION("the relay goes at once") { c.peer.Close(); }
  SECTION("the relay ends its side first") { c.peer.FinishWriting(); }
  CHECK(error.get() == "too-big|the frame's SIZE is over max_event");
  CHECK(CodeOf([&] { c.client.Ping(); }) == std::errc::connection_reset);
}

TEST_CASE("producer client: set_patience bounds a relay that says nothing") {
  Connected c;
  c.client.set_patience(milliseconds(1));
  SECTION("instead of an answer") {
    CHECK(CodeOf([&] { c.client.Ping(); }) == std::errc::timed_out);
  }
  SECTION("and takes nothing") {
    const std::string event(8'000'000, 'x');
    CHECK(CodeOf([&] { c.client.Send(event); }) == std::errc::timed_out);
  }
  // Whatever it says now may be cut, or the answer to something else.
  c.peer.Answer({"ok"});
  CHECK(CodeOf([&] { c.client.Ping(); }) == std::errc::connection_reset);
}

TEST_CASE("producer client: what is no answer of evrelay ends all") {
  const std::string answer = GENERATE(
      as<std::string>{}, "5:hello,", "hello", "5:hello]", "0:]", "5:2:ok,;", EncodeList({"hello"}),
      EncodeList({"error", "code"}), EncodeList({"resumed", "0", "1"}),
      EncodeList({"expired", "0", "1", "2"}), EncodeList({"expired", "0", "x"}),
      EncodeList({"expired", "-1", "1"}), EncodeList({"expired", "0", "4294967296"}),
      EncodeList({"ok"}), EncodeList({"ok", ""}), EncodeList({"ok", "1x"}),
      EncodeList({"suspended", "0", "1"}), EncodeList({"ok", "1"}) + EncodeList({"ok", "1"}));
  CAPTURE(answer);
  Connected c;
  c.peer.Write(answer);
  CHECK(CodeOf([&] { c.client.Relay("x"); }) == std::errc::protocol_error);
  CHECK(CodeOf([&] { c.client.Send("x"); }) == std::errc::connection_reset);
}

TEST_CASE("producer client: who cannot connect is told the path") {
  FakeRelay relay;
  const std::string missing = relay.directory() + "/none";
  CHECK(SystemErrorOf([&] { ProducerClient client(missing); }) ==
        std::pair(std::errc::no_such_file_or_directory,
                  "connect " + missing + ": " + std::generic_category().message(ENOENT)));
  relay.Stop();
  CHECK(CodeOf([&] { ProducerClient client(relay.path()); }) == std::errc::connection_refused);
  const std::string longest(107, 'x');
  CHECK(CodeOf([&] { ProducerClient client(longest); }) == std::errc::no_such_file_or_directory);
  CHECK(CodeOf([&] { ProducerClient client(longest + "x"); }) == std::errc::filename_too_long);
}

TEST_CASE("producer client: the default place") {
  FakeRelay relay("evrelay/producer.sock");
  const auto connects = [&] {
    ProducerClient client;
    client.Send("x");
    CHECK(relay.Accept().Read(4) == "1:x,");
  };
  SECTION("the socket that is named") {
    const Variable named("EVRELAY_SOCKET", relay.path());
    const Variable session("XDG_RUNTIME_DIR", "/nonexistent");
    connects();
  }
  SECTION("that of the session") {
    const Variable named("EVRELAY_SOCKET", "");
    const Variable session("XDG_RUNTIME_DIR", relay.directory());
    connects();
  }
  SECTION("one that is named is the only one") {
    const Variable named("EVRELAY_SOCKET", "/nonexistent/a.sock");
    const Variable session("XDG_RUNTIME_DIR", relay.directory());
    CHECK(SystemErrorOf([] { ProducerClient client; }).second ==
          "connect /nonexistent/a.sock: " + std::generic_category().message(ENOENT));
  }
  if (::access("/run/evrelay/producer.sock", F_OK) != 0) {
    const Variable named("EVRELAY_SOCKET", std::nullopt);
    const Variable session("XDG_RUNTIME_DIR", "/nonexistent");
    CHECK(SystemErrorOf([] { ProducerClient client; }) ==
          std::pair(std::errc::no_such_file_or_directory,
                    "no relay found, neither $EVRELAY_SOCKET nor "
                    "/nonexistent/evrelay/producer.sock nor /run/evrelay/producer.sock: " +
                        std::generic_category().message(ENOENT)));
  }
}

TEST_CASE("producer client: closes its descriptor, also when it could not connect") {
  FakeRelay relay;
  const auto lowest = [] {
    const evrelay::UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    return fd.get();
  };
  const int before = lowest();
  {
    ProducerClient client(relay.path());
    CHECK((::fcntl(before, F_GETFD) & FD_CLOEXEC) != 0);
  }
  CHECK_THROWS_AS(ProducerClient("/nonexistent"), std::system_error);
  CHECK(lowest() == before);
}
