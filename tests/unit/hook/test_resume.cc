// evapi.resume and KSR.tmx.t_continue, over claims that are the test's.

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "evrelay/action.h"
#include "support/catch.h"
#include "unit/hook/hook_test.h"

namespace evrelay {
namespace {

using namespace std::string_literals;
using Actions = std::vector<std::string>;
using Ids = std::vector<SuspendedId>;

// Requests that wait until they are claimed.
class FakeClaims final : public Claims {
 public:
  explicit FakeClaims(Ids requests) : waiting(std::move(requests)) {}

  bool Claim(SuspendedId request) noexcept override {
    tried.push_back(request);
    const auto at = std::find(waiting.begin(), waiting.end(), request);
    if (at == waiting.end()) return false;
    claimed.push_back(request);
    waiting.erase(at);
    return true;
  }
  void GiveBack(SuspendedId request) noexcept override {
    const auto at = std::find(claimed.begin(), claimed.end(), request);
    if (at == claimed.end()) {
      ++foreign;
      return;
    }
    claimed.erase(at);
    waiting.push_back(request);
  }

  Ids waiting;
  Ids claimed;
  Ids tried;
  int foreign = 0;  // given back though not claimed
};

constexpr SuspendedId kRequest{3, 4'000'000'000};

HookEvent With(FakeClaims& claims, HookEvent event) {
  event.claims = &claims;
  return event;
}

// The two faces: what is called, and what it returns.
struct Face {
  std::string function;
  std::string yes;
  std::string no;
};
Face EachFace() {
  return GENERATE(
      values<Face>({{"evapi.resume", "true", "false"}, {"KSR.tmx.t_continue", "1", "-1"}}));
}

}  // namespace

TEST_CASE("resume: numbers and decimal strings name the request") {
  const Face face = EachFace();
  const std::string index = GENERATE(as<std::string>{}, "3", "'3'", "'0003'", "0x3", "6 / 2");
  const std::string label =
      GENERATE(as<std::string>{}, "4000000000", "'4000000000'", "'0004000000000'", "0xee6b2800",
               "('x4000000000y'):match('%d+')");
  const std::string call = face.function + "(" + index + ", " + label + ", 'done')";
  CAPTURE(call);
  FakeClaims claims({{1, 1}, kRequest});
  Hooked hooked(OnMessage("assert(" + call + " == " + face.yes + ")"));
  CHECK(hooked.Do(With(claims, Message("hello"))) == Actions{"resume 3 4000000000 done"});
  CHECK(claims.claimed == Ids{kRequest});
  CHECK(claims.waiting == Ids{{1, 1}});
  CHECK(hooked.verdict().bytes() == 4);
}

TEST_CASE("resume: the ends of the range") {
  const Face face = EachFace();
  FakeClaims claims({{0, 1}, {UINT32_MAX, UINT32_MAX}});
  Hooked hooked(OnMessage("local f, yes = " + face.function + ", " + face.yes +
                          " assert(f(4294967295, '4294967295', 'a') == yes) "
                          "assert(f('0', 1, 'b') == yes)"));
  CHECK(hooked.Do(With(claims, Message("hello"))) ==
        Actions{"resume 4294967295 4294967295 a", "resume 0 1 b"});
}

TEST_CASE("resume: what is no number of a request names none") {
  const Face face = EachFace();
  // Each would name the request, were it read with less care.
  struct Case {
    std::string index;
    std::string label;
  };
  const auto& [index, label] = GENERATE(values<Case>({
      {"-3", "4000000000"},
      {"3", "-4000000000"},
      {"3", "-294967296"},           // the label's bits, with a sign
      {"4294967299", "4000000000"},  // 3, past 32 bits
      {"3", "8294967296"},
      {"18446744073709551619", "4000000000"},
      {"3.5", "4000000000"},
      {"3", "4000000000.5"},
      {"3", "1e300"},
      {"0/0", "4000000000"},
      {"1/0", "4000000000"},
      {"-1/0", "4000000000"},
      {"nil", "4000000000"},
      {"3", "nil"},
      {"nil", "nil"},
      {"true", "4000000000"},
      {"{3}", "4000000000"},
      {"3", "{}"},
      {"3", "function() end"},
      {"coroutine.create(print)", "4000000000"},
      {"setmetatable({}, {__tostring = function() return '3' end})", "4000000000"},
      {"''", "4000000000"},
      {"3", "''"},
      {"' 3'", "4000000000"},
      {"'3 '", "4000000000"},
      {"'3\\n'", "4000000000"},
      {"'3\\0'", "4000000000"},
      {"'\\0003'", "4000000000"},
      {"'+3'", "4000000000"},
      {"'-3'", "4000000000"},
      {"'3.0'", "4000000000"},
      {"'3,'", "4000000000"},
      {"'3e0'", "4000000000"},
      {"'0x3'", "4000000000"},
      {"3", "'ee6b2800'"},
      {"3", "'0xee6b2800'"},
      {"'three'", "4000000000"},
      {"3", "'4294967296000000000'"},
      {"'4294967299'", "4000000000"},
      {"'18446744073709551619'", "4000000000"},
      {"3", "'8294967296'"},
      {"3", "'99999999999999999999999999999999999999999'"},
  }));
  CAPTURE(index, label);
  FakeClaims claims({kRequest});
  Hooked hooked(OnMessage("local f, no = " + face.function + ", " + face.no + " assert(f(" + index +
                          ", " + label + ", 'x') == no)"));
  CHECK(hooked.Do(With(claims, Message("hello"))).empty());
  CHECK(claims.waiting == Ids{kRequest});
  CHECK(claims.tried.empty());
}

TEST_CASE("resume: other numbers than those of a request that waits") {
  const Face face = EachFace();
  FakeClaims claims({kRequest});
  Hooked hooked(OnMessage("local f, no = " + face.function + ", " + face.no +
                          " assert(f(3, 4000000001, 'x') == no and f(4, 4000000000, 'x') == no) "
                          "assert(f(0, 0, 'x') == no and f(4000000000, 3, 'x') == no)"));
  CHECK(hooked.Do(With(claims, Message("hello"))).empty());
  CHECK(claims.waiting == Ids{kRequest});
  CHECK(claims.tried.size() == 4);
}

TEST_CASE("resume: a second time is once too often") {
  const Face face = EachFace();
  FakeClaims claims({kRequest});
  Hooked hooked(OnMessage("local f, yes, no = " + face.function + ", " + face.yes + ", " + face.no +
                          " assert(f(3, 4000000000, 'one') == yes) "
                          "assert(f(3, 4000000000, 'two') == no) "
                          "assert(f('3', '4000000000', 'three') == no)"));
  CHECK(hooked.Do(With(claims, Message("hello"))) == Actions{"resume 3 4000000000 one"});
  CHECK(claims.claimed == Ids{kRequest});

  // Nor in a later hook; nor does that one's failure give back what is not its own.
  Hooked late(OnMessage("assert(" + face.function + "(3, 4000000000, 'x') == " + face.no +
                        ") error('late')"));
  CHECK(late.Run(With(claims, Message("hello"))) == HookOutcome::kError);
  CHECK(claims.claimed == Ids{kRequest});
  CHECK(claims.foreign == 0);
}

TEST_CASE("resume: several requests in one hook, among other actions") {
  FakeClaims claims({{1, 11}, {2, 22}, {3, 33}});
  Hooked hooked(OnMessage("evapi.resume(2, 22, 'b') evapi.relay('x') evapi.resume(1, 11, 'a')"));
  CHECK(hooked.Do(With(claims, Message("hello"))) ==
        Actions{"resume 2 22 b", "relay x", "resume 1 11 a"});
  CHECK(claims.claimed == Ids{{2, 22}, {1, 11}});
}

TEST_CASE("resume: the data are bytes, from one to max_event") {
  const Face face = EachFace();
  Config config = Patient();
  config.max_event = 100;
  FakeClaims claims({kRequest});
  Hooked hooked(OnMessage("local f, yes, no = " + face.function + ", " + face.yes + ", " + face.no +
                          " assert(f(3, 4000000000, '') == no) "
                          "assert(f(3, 4000000000, ('x'):rep(101)) == no) "
                          "assert(f(3, 4000000000, evapi.msg .. ('x'):rep(95)) == yes)"),
                config);
  const std::string bytes = "\0\n,%\xff"s;
  CHECK(hooked.Do(With(claims, Message(bytes))) ==
        Actions{"resume 3 4000000000 " + bytes + std::string(95, 'x')});
  CHECK(claims.tried.size() == 1);
}

TEST_CASE("resume: data that are no string are an error, which claims nothing") {
  struct Case {
    std::string arguments;
    std::string got;
  };
  const auto& [arguments, got] = GENERATE(values<Case>({
      {"3, 4000000000", "no value"},
      {"3, 4000000000, nil", "nil"},
      {"3, 4000000000, {}", "table"},
      {"", "no value"},
  }));
  FakeClaims claims({kRequest});
  Hooked hooked(OnMessage("evapi.resume(" + arguments + ")"));
  CHECK(hooked.Run(With(claims, Message("hello"))) == HookOutcome::kError);
  REQUIRE(hooked.log().size() == 1);
  CHECK(hooked.log()[0].ends_with("hook.lua:1: bad argument #3 to 'resume' (string expected, got " +
                                  got + ")"));
  CHECK(claims.waiting == Ids{kRequest});
}

TEST_CASE("resume: every event may do it, the last one included") {
  FakeClaims claims({{1, 11}, {2, 22}});
  Hooked hooked(
      "event_route['evapi:connection-new'] = function(evapi) "
      "assert(evapi.resume(1, 11, 'new')) end "
      "event_route['evapi:connection-closed'] = function(evapi) "
      "assert(evapi.resume(2, 22, 'closed')) end");
  CHECK(hooked.Do(With(claims, New())) == Actions{"resume 1 11 new"});
  CHECK(hooked.Do(With(claims, Closed())) == Actions{"resume 2 22 closed"});
}

TEST_CASE("resume: not after close, and without a claim on the way") {
  const Face face = EachFace();
  FakeClaims claims({kRequest});
  Hooked hooked(OnMessage("evapi.close() assert(" + face.function +
                          "(3, 4000000000, 'x') == " + face.no + ")"));
  CHECK(hooked.Do(With(claims, Message("hello"))) == Actions{"close"});
  CHECK(claims.waiting == Ids{kRequest});
  CHECK(claims.tried.empty());
}

TEST_CASE("resume: not in a full verdict, and without a claim on the way") {
  FakeClaims claims({kRequest});
  SECTION("actions") {
    Hooked hooked(
        OnMessage("while evapi.relay('x') do end "
                  "assert(evapi.resume(3, 4000000000, 'x') == false)"));
    CHECK(hooked.Do(With(claims, Message("hello"))).size() == Verdict::kMaxActions);
  }
  SECTION("bytes") {
    Hooked hooked(
        OnMessage("local mib = ('x'):rep(1 << 20) for i = 1, 4 do assert(evapi.relay(mib)) end "
                  "assert(evapi.resume(3, 4000000000, 'x') == false)"));
    CHECK(hooked.Do(With(claims, Message("hello"))).size() == 4);
  }
  CHECK(claims.waiting == Ids{kRequest});
  CHECK(claims.tried.empty());
}

TEST_CASE("resume: a hook that fails gives all its claims back, and only them") {
  const std::string failure =
      GENERATE(as<std::string>{}, "error('late')", "error()", "local x = nil + 1",
               "evapi.relay({})", "while true do end", "while true do pcall(error) end",
               "local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end");
  CAPTURE(failure);
  Config config;
  config.hook.timeout = std::chrono::milliseconds(20);
  config.hook.memory = 1024 * 1024;
  FakeClaims claims({{1, 11}, {2, 22}, {3, 33}});
  REQUIRE(claims.Claim({3, 33}));  // another worker's
  Hooked hooked(
      OnMessage("if evapi.msg == 'fail' then evapi.resume(1, 11, 'a') evapi.relay('x') "
                "evapi.resume(2, 22, 'b') evapi.resume(3, 33, 'c') evapi.resume(4, 4, 'd') " +
                failure + " end assert(evapi.resume(1, 11, 'good'))"),
      config);
  CHECK(hooked.Run(With(claims, Message("fail"))) != HookOutcome::kDone);
  CHECK(hooked.verdict().empty());
  CHECK(claims.claimed == Ids{{3, 33}});
  CHECK(claims.waiting == Ids{{1, 11}, {2, 22}});
  CHECK(claims.foreign == 0);

  // Now another can have them.
  CHECK(hooked.Do(With(claims, Message("hello"))) == Actions{"resume 1 11 good"});
  CHECK(claims.claimed == Ids{{3, 33}, {1, 11}});
}

TEST_CASE("resume: the three ways to fail are told apart") {
  Config config;
  config.hook.timeout = std::chrono::milliseconds(20);
  config.hook.memory = 1024 * 1024;
  struct Case {
    std::string body;
    HookOutcome outcome;
  };
  const auto& [body, outcome] = GENERATE(values<Case>({
      {"error('x')", HookOutcome::kError},
      {"while true do end", HookOutcome::kTimeout},
      {"local s = ('x'):rep(1 << 22)", HookOutcome::kMemory},
  }));
  FakeClaims claims({kRequest});
  Hooked hooked(OnMessage("assert(evapi.resume(3, 4000000000, 'x')) " + body), config);
  CHECK(hooked.Run(With(claims, Message("hello"))) == outcome);
  CHECK(claims.waiting == Ids{kRequest});
}

TEST_CASE("resume: an error that the script catches costs it no claim") {
  FakeClaims claims({kRequest});
  Hooked hooked(
      OnMessage("pcall(function() assert(evapi.resume(3, 4000000000, 'x')) error('caught') end)"));
  CHECK(hooked.Do(With(claims, Message("hello"))) == Actions{"resume 3 4000000000 x"});
  CHECK(claims.claimed == Ids{kRequest});
}

TEST_CASE("resume: KSR.x.exit is a success, the claim stays") {
  FakeClaims claims({kRequest});
  Hooked hooked(OnMessage("KSR.tmx.t_continue(3, 4000000000, 'x') KSR.x.exit() error('no')"));
  CHECK(hooked.Do(With(claims, Message("hello"))) == Actions{"resume 3 4000000000 x"});
  CHECK(claims.claimed == Ids{kRequest});
}

TEST_CASE("resume: where nothing waits") {
  const Face face = EachFace();
  const std::string call = "assert(" + face.function + "(3, 4000000000, 'x') == " + face.no + ")";
  CAPTURE(call);
  SECTION("while a script is loaded") { Hooked hooked(call + " " + OnMessage("")); }
  SECTION("in an event without claims") { CHECK(Hooked(OnMessage(call)).Say("hello").empty()); }
}

}  // namespace evrelay
