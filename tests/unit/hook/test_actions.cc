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

TEST_CASE("each function adds its action and returns true") {
  struct Case {
    std::string call;
    std::string action;
  };
  const auto& [call, action] = GENERATE(values<Case>({
      {"relay('data')", "relay data"},
      {"multicast('data', 'tag')", "multicast data tag"},
      {"unicast('data', 'tag')", "unicast data tag"},
      {"reply('data')", "reply data"},
      {"close()", "close"},
      {"set_tag('tag')", "set_tag tag"},
      {"set_tag('')", "set_tag "},
      {"relay(evapi.msg)", "relay hello"},
      {"relay(12)", "relay 12"},
      {"multicast(1.5, -3)", "multicast 1.5 -3"},
      {"relay('a', 'ignored')", "relay a"},
  }));
  CAPTURE(call);
  Hooked hooked(OnMessage("local result = evapi." + call + " assert(result == true)"));
  CHECK(hooked.Say("hello") == Actions{action});
}

TEST_CASE("actions keep their order, and their bytes are counted") {
  Hooked hooked(
      OnMessage("evapi.set_tag('t') evapi.relay('one') evapi.unicast('two', 'tag') "
                "evapi.reply('three') evapi.close()"));
  CHECK(hooked.Say("x") ==
        Actions{"set_tag t", "relay one", "unicast two tag", "reply three", "close"});
  CHECK(hooked.verdict().bytes() == 1 + 3 + 6 + 5);
  CHECK(hooked.verdict().closes());
}

TEST_CASE("events and tags are bytes of any kind") {
  const std::string bytes = "\0a\r\n%s$\xff\xc3,"s;
  Hooked hooked(OnMessage("evapi.set_tag(evapi.msg) evapi.multicast(evapi.msg, evapi.msg)"));
  CHECK(hooked.Say(bytes) == Actions{"set_tag " + bytes, "multicast " + bytes + " " + bytes});
}

TEST_CASE("what may not be added returns false and leaves no trace") {
  const std::string call =
      GENERATE(as<std::string>{}, "relay('')", "multicast('', 'tag')", "multicast('data', '')",
               "unicast('', 'tag')", "unicast('data', '')", "reply('')", "relay(long)",
               "multicast(long, 'tag')", "unicast(long, 'tag')", "reply(long)",
               "multicast('data', tag)", "unicast('data', tag)", "set_tag(tag)");
  CAPTURE(call);
  Config config = Patient();
  config.max_event = 100;
  Hooked hooked(OnMessage("local long, tag = ('x'):rep(101), ('x'):rep(64) "
                          "local result = evapi." +
                          call + " assert(result == false)"),
                config);
  CHECK(hooked.Say("hello").empty());
}

TEST_CASE("max_event and 63 bytes of a tag are allowed") {
  Config config = Patient();
  config.max_event = 100;
  Hooked hooked(OnMessage("local long, tag = ('x'):rep(100), ('x'):rep(63) "
                          "assert(evapi.relay(long) and evapi.reply(long) and evapi.set_tag(tag)) "
                          "assert(evapi.multicast(long, tag) and evapi.unicast(long, tag))"),
                config);
  CHECK(hooked.Say("hello").size() == 5);
}

TEST_CASE("nothing follows a close") {
  Hooked hooked(
      OnMessage("evapi.relay('before') evapi.close() "
                "assert(evapi.close() == false) assert(evapi.set_tag('t') == false) "
                "assert(evapi.relay('x') == false) assert(evapi.reply('x') == false) "
                "assert(evapi.multicast('x', 't') == false) "
                "assert(evapi.unicast('x', 't') == false) assert(evapi.tag == nil)"));
  CHECK(hooked.Say("hello") == Actions{"relay before", "close"});
}

TEST_CASE("a full verdict takes no more") {
  SECTION("actions") {
    Hooked hooked(
        OnMessage("local n = 0 while evapi.relay('x') do n = n + 1 end "
                  "assert(n == 1024) assert(evapi.close() == false)"));
    CHECK(hooked.Say("hello").size() == Verdict::kMaxActions);
  }
  SECTION("bytes") {
    Hooked hooked(
        OnMessage("local mib = ('x'):rep(1 << 20) "
                  "for i = 1, 4 do assert(evapi.relay(mib)) end "
                  "assert(evapi.relay('x') == false) assert(evapi.close())"));
    CHECK(hooked.Say("hello").size() == 5);
    CHECK(hooked.verdict().bytes() == Verdict::kMaxBytes);
  }
}

TEST_CASE("once the connection is closed only others can be reached") {
  Hooked hooked(
      "event_route['evapi:connection-closed'] = function(evapi) "
      "assert(evapi.reply('x') == false) assert(evapi.close() == false) "
      "assert(evapi.set_tag('t') == false) assert(evapi.tag == 'old') "
      "evapi.relay('a') evapi.multicast('b', 't') evapi.unicast('c', 't') end");
  HookEvent event = Closed();
  event.tag = "old";
  CHECK(hooked.Do(event) == Actions{"relay a", "multicast b t", "unicast c t"});
}

TEST_CASE("all actions can be had in connection-new") {
  Hooked hooked(
      "event_route['evapi:connection-new'] = function(evapi) "
      "evapi.set_tag('t') evapi.reply('welcome') evapi.relay('a') evapi.close() end");
  CHECK(hooked.Do(New()) == Actions{"set_tag t", "reply welcome", "relay a", "close"});
}

TEST_CASE("actions return false while a script is loaded") {
  Hooked hooked(
      "for _, f in ipairs({'relay', 'reply', 'set_tag'}) do "
      "  assert(evapi[f]('x') == false) end "
      "assert(evapi.multicast('x', 't') == false and evapi.unicast('x', 't') == false) "
      "assert(evapi.close() == false)" +
      OnMessage(""));
  CHECK(hooked.Say("hello").empty());
}

TEST_CASE("an argument that is no string is an error that names it") {
  struct Case {
    std::string call;
    std::string error;
  };
  const auto& [call, error] = GENERATE(values<Case>({
      {"relay()", "bad argument #1 to 'relay' (string expected, got no value)"},
      {"relay(nil)", "bad argument #1 to 'relay' (string expected, got nil)"},
      {"reply({})", "bad argument #1 to 'reply' (string expected, got table)"},
      {"set_tag(true)", "bad argument #1 to 'set_tag' (string expected, got boolean)"},
      {"multicast('x')", "bad argument #2 to 'multicast' (string expected, got no value)"},
      {"multicast(nil, nil)", "bad argument #1 to 'multicast' (string expected, got nil)"},
      {"unicast('x', {})", "bad argument #2 to 'unicast' (string expected, got table)"},
      {"resume(1, 2)", "bad argument #3 to 'resume' (string expected, got no value)"},
  }));
  CHECK(Failure("evapi." + call) == "hook.lua:1: " + error);
}

TEST_CASE("a hook that fails has no verdict") {
  Hooked hooked(OnMessage("evapi.relay('x') evapi.set_tag('t') evapi.close() error('late')"));
  CHECK(hooked.Run(Message("hello")) == HookOutcome::kError);
  CHECK(hooked.verdict().empty());
  CHECK(hooked.verdict().bytes() == 0);
  CHECK_FALSE(hooked.verdict().closes());
}

TEST_CASE("a verdict has nothing of the one before") {
  Hooked hooked(
      OnMessage("if evapi.msg == 'close' then evapi.set_tag('t') evapi.close() else "
                "assert(evapi.tag == nil) evapi.relay('open') end"));
  CHECK(hooked.Say("close") == Actions{"set_tag t", "close"});
  CHECK(hooked.Say("again") == Actions{"relay open"});
}

}  // namespace
}  // namespace evrelay
