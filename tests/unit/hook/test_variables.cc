#include <cstddef>
#include <string>
#include <vector>

#include "metrics/reasons.h"
#include "support/catch.h"
#include "unit/hook/hook_test.h"

namespace evrelay {
namespace {

using namespace std::string_literals;
using Actions = std::vector<std::string>;

// Says of each variable its type and value.
constexpr char kTell[] = R"lua(
local function tell(evapi)
  local said = {}
  for _, name in ipairs({"srcaddr", "srcport", "conidx", "msg", "tag", "reason"}) do
    local value = evapi[name]
    said[#said + 1] = name .. "=" .. tostring(math.type(value) or value)
    if math.type(value) then said[#said] = said[#said] .. ":" .. value end
  end
  evapi.relay(table.concat(said, " "))
end
event_route["evapi:connection-new"] = tell
event_route["evapi:message-received"] = tell
event_route["evapi:connection-closed"] = tell
)lua";

TEST_CASE("an event has its variables, the others are nil") {
  Hooked hooked(kTell);
  CHECK(hooked.Do(New()) == Actions{"relay srcaddr=127.0.0.1 srcport=integer:4000 "
                                    "conidx=integer:7 msg=nil tag=nil reason=nil"});
  HookEvent message = Message("hello");
  message.srcaddr = "2001:db8::7";
  message.srcport = 65535;
  message.connection = {4294967295u, 3};
  message.tag = "blue";
  CHECK(hooked.Do(message) == Actions{"relay srcaddr=2001:db8::7 srcport=integer:65535 "
                                      "conidx=integer:4294967295 msg=hello tag=blue reason=nil"});
  HookEvent closed = Closed(CloseReason::kSlowSubscriber);
  closed.srcaddr = "unix";
  closed.srcport = 0;
  closed.connection = {0, 1};
  CHECK(hooked.Do(closed) == Actions{"relay srcaddr=unix srcport=integer:0 conidx=integer:0 "
                                     "msg=nil tag=nil reason=slow-subscriber"});
}

TEST_CASE("reason is the word that the log has") {
  Hooked hooked(
      "event_route['evapi:connection-closed'] = function(evapi) evapi.relay(evapi.reason) end");
  for (std::size_t i = 0; i < kCloseReasonNames.size(); ++i) {
    CHECK(hooked.Do(Closed(static_cast<CloseReason>(i))) ==
          Actions{"relay " + std::string(kCloseReasonNames[i])});
  }
}

TEST_CASE("msg is the bytes that came") {
  Hooked hooked(OnMessage("assert(#evapi.msg == 8) evapi.relay(evapi.msg)"));
  const std::string bytes = "\0a\r\n%s\xff\xc3"s;
  CHECK(hooked.Say(bytes) == Actions{"relay " + bytes});
}

TEST_CASE("each event has its own variables") {
  Hooked hooked(OnMessage("evapi.relay(evapi.msg .. evapi.msg)"));
  CHECK(hooked.Say("one") == Actions{"relay oneone"});
  CHECK(hooked.Say("two") == Actions{"relay twotwo"});
  CHECK(hooked.Say(std::string(100, 'x'))[0].size() == 206);
}

TEST_CASE("tag shows what the same hook has set") {
  Hooked hooked(
      OnMessage("assert(evapi.tag == 'old') "
                "evapi.set_tag('new') assert(evapi.tag == 'new') "
                "assert(not evapi.set_tag(('x'):rep(64))) assert(evapi.tag == 'new') "
                "evapi.set_tag('') assert(evapi.tag == nil) "
                "evapi.set_tag(evapi.msg) assert(evapi.tag == 'hello')"));
  HookEvent event = Message("hello");
  event.tag = "old";
  CHECK(hooked.Do(event) == Actions{"set_tag new", "set_tag ", "set_tag hello"});
}

TEST_CASE("variables stay readable after close") {
  Hooked hooked(
      OnMessage("evapi.close() assert(evapi.msg == 'hello') "
                "assert(evapi.srcaddr == '127.0.0.1' and evapi.srcport == 4000) "
                "assert(evapi.conidx == 7 and evapi.tag == 't')"));
  HookEvent event = Message("hello");
  event.tag = "t";
  CHECK(hooked.Do(event) == Actions{"close"});
}

TEST_CASE("there are no variables while a script is loaded") {
  Hooked hooked(
      "for _, name in ipairs({'srcaddr', 'srcport', 'conidx', 'msg', 'tag', 'reason'}) do "
      "assert(evapi[name] == nil) end");
}

TEST_CASE("what routes get is the global evapi") {
  CheckLua("assert(evapi == _G.evapi) assert(type(evapi) == 'table')");
  CHECK(Hooked("local e = evapi " + OnMessage("e.relay(e.msg)")).Say("x") == Actions{"relay x"});
}

TEST_CASE("an unknown field is nil") {
  CheckLua("assert(evapi.mesg == nil) assert(evapi[1] == nil) assert(evapi[true] == nil)");
}

TEST_CASE("evapi cannot be changed") {
  CHECK(Failure("evapi.msg = 'x'") == "hook.lua:1: evapi.msg is read-only");
  CHECK(Failure("evapi.relay = nil") == "hook.lua:1: evapi.relay is read-only");
  CHECK(Failure("evapi.mine = 1") == "hook.lua:1: evapi.mine is read-only");
  CHECK(Failure("evapi[{}] = 1").find("is read-only") != std::string::npos);
  CHECK(Failure("setmetatable(evapi, {})") == "hook.lua:1: cannot change a protected metatable");
  CheckLua("assert(getmetatable(evapi) == false)");
}

}  // namespace
}  // namespace evrelay
