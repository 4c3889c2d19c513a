// What scripts and their failures leave in the log.

#include <chrono>
#include <string>
#include <vector>

#include "support/catch.h"
#include "unit/hook/hook_test.h"

namespace evrelay {
namespace {

using namespace std::string_literals;
using namespace std::chrono_literals;
using Log = std::vector<std::string>;

TEST_CASE("xlog knows Kamailio's levels and evrelay's") {
  struct Case {
    std::string level;
    std::string logged;
  };
  const auto& [level, logged] = GENERATE(values<Case>({
      {"L_ALERT", "error"},
      {"L_BUG", "error"},
      {"L_CRIT", "error"},
      {"L_ERR", "error"},
      {"L_WARN", "warn"},
      {"L_NOTICE", "info"},
      {"L_INFO", "info"},
      {"L_DBG", "debug"},
      {"error", "error"},
      {"warn", "warn"},
      {"info", "info"},
      {"debug", "debug"},
  }));
  SetLogLevel(LogLevel::kDebug);
  Hooked hooked(OnMessage("xlog('" + level + "', 'text')"));
  hooked.Say("x");
  SetLogLevel(LogLevel::kInfo);
  CHECK(hooked.log() == Log{logged + " hook: text"});
}

TEST_CASE("xlog without a level is info, and debug is silent by default") {
  Hooked hooked(OnMessage("xlog('text\\r\\n') xlog(1.5) xlog('L_DBG', 'unheard')"));
  hooked.Say("x");
  CHECK(hooked.log() == Log{"info hook: text", "info hook: 1.5"});
}

TEST_CASE("xlog says what it cannot take") {
  CHECK(Failure("xlog('L_LOUD', 'x')") ==
        "hook.lua:1: xlog: L_LOUD is no level; there are L_ALERT, L_BUG, L_CRIT, L_ERR, L_WARN, "
        "L_NOTICE, L_INFO, L_DBG, and error, warn, info, debug");
  CHECK(Failure("xlog()") ==
        "hook.lua:1: bad argument #1 to 'xlog' (string expected, got no value)");
  CHECK(Failure("xlog('L_ERR', {})") ==
        "hook.lua:1: bad argument #2 to 'xlog' (string expected, got table)");
}

TEST_CASE("print writes one line") {
  Hooked hooked(
      OnMessage("print('a', 1, nil, true, setmetatable({}, {__tostring = function() "
                "return 'mine' end})) print()"));
  hooked.Say("x");
  CHECK(hooked.log() == Log{"info hook: a\\x091\\x09nil\\x09true\\x09mine", "info hook: "});
}

TEST_CASE("no message can forge or garble a line") {
  Hooked hooked(OnMessage("xlog('[' .. evapi.msg .. ']')"));
  hooked.Say("a\n2026-01-01T00:00:00.000000Z error hook: forged\0\x1b[31m\x7f"s);
  CHECK(hooked.log() == Log{"info hook: [a\\x0a2026-01-01T00:00:00.000000Z error hook: "
                            "forged\\x00\\x1b[31m\\x7f]"});
  hooked.Say(
      "\xc2\x9b"
      "1m \xe2\x80\xae \xff\xc3 gr\xc3\xbc\xc3\x9f");
  CHECK(hooked.log() ==
        Log{"info hook: [\\xc2\\x9b1m \\xe2\\x80\\xae \\xff\\xc3 gr\xc3\xbc\xc3\x9f]"});
  hooked.Say(R"({"a": "it's \"x\""})");
  CHECK(hooked.log() == Log{R"(info hook: [{"a": "it's \"x\""}])"});
}

TEST_CASE("a long line is cut") {
  Hooked hooked(OnMessage("xlog(('x'):rep(5000))"));
  hooked.Say("x");
  CHECK(hooked.log() == Log{"info hook: " + std::string(4096, 'x') + "... (5000 bytes)"});
}

TEST_CASE("a failure is one line with event, connection, place and callers") {
  Hooked hooked(
      "local function inner(t)\n"
      "  return t.missing.field\n"
      "end\n"
      "local function outer(t)\n"
      "  return inner(t), 1\n"
      "end\n"
      "event_route['evapi:connection-closed'] = function(evapi)\n"
      "  local x = outer({})\n"
      "end\n" +
      OnMessage("error('bad \"' .. evapi.msg .. '\"')"));
  HookEvent event = Closed();
  event.srcaddr = "2001:db8::7";
  CHECK(hooked.Run(event) == HookOutcome::kError);
  CHECK(hooked.log() ==
        Log{"error hook: evapi:connection-closed of conidx 7 ([2001:db8::7]:4000): hook.lua:2: "
            "attempt to index a nil value (field 'missing'); called from hook.lua:5, hook.lua:8"});
  event = Message("x\ny");
  event.srcaddr = "unix";
  CHECK(hooked.Run(event) == HookOutcome::kError);
  CHECK(hooked.log() == Log{"error hook: evapi:message-received of conidx 7 (unix): hook.lua:10: "
                            "bad \"x\\x0ay\""});
}

TEST_CASE("the place is there whatever is raised") {
  CHECK(Failure("error('x', 0)") == "hook.lua:1: x");
  CHECK(Failure("error('x', 2)") == "hook.lua:1: x");
  CHECK(Failure("error()") == "hook.lua:1: an error that is a nil, not a text");
  CHECK(Failure("error({code = 1})") == "hook.lua:1: an error that is a table, not a text");
  CHECK(Failure("error(12)") == "hook.lua:1: an error that is a number, not a text");
  CHECK(Failure("error(('x'):rep(5000))").size() < 1100);
  Config config = Patient();
  config.hook.memory = 1024 * kMiB;
  CHECK(Failure("local function f() f() f() end f()", config).size() < 1700);
}

TEST_CASE("a place is logged once a second, with how often it failed") {
  Hooked hooked(OnMessage("if evapi.msg == 'a' then\nerror('a')\nelse\nerror('b')\nend"));
  const auto fail = [&](std::string_view msg) {
    CHECK(hooked.Run(Message(msg)) == HookOutcome::kError);
    return hooked.log();
  };
  const auto began = std::chrono::steady_clock::now();
  CHECK(fail("a").size() == 1);
  CHECK(fail("b").size() == 1);
  std::size_t more = 0;
  Log log;
  while ((log = fail("a")).empty()) ++more;
  CHECK(std::chrono::steady_clock::now() - began >= 1s);
  CHECK(log[0].ends_with("hook.lua:2: a (" + std::to_string(more) + " more suppressed)"));
}

TEST_CASE("places are told apart up to a number") {
  Hooked hooked(OnMessage("load(('\\n'):rep(tonumber(evapi.msg)) .. 'error(1)', '=line')()"));
  std::size_t lines = 0;
  for (int line = 0; line < 1000; ++line) {
    CHECK(hooked.Run(Message(std::to_string(line))) == HookOutcome::kError);
    lines += hooked.log().size();
  }
  CHECK(lines >= 64);
  CHECK(lines < 100);
}

}  // namespace
}  // namespace evrelay
