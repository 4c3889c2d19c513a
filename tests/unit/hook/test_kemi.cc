#include <string>
#include <vector>

#include "support/catch.h"
#include "unit/hook/hook_test.h"

namespace evrelay {
namespace {

using Actions = std::vector<std::string>;

TEST_CASE("a KEMI script runs unchanged") {
  Config config = Patient();
  config.event_callback = "ksr_evapi_event";
  Hooked hooked(R"lua(
    function ksr_evapi_event(evname)
      KSR.info("===== evapi module triggered event: " .. evname .. "\n")
      if evname == "evapi:connection-new" then
        if KSR.pv.get("$evapi(srcaddr)") ~= "127.0.0.1" then
          KSR.evapi.close()
          KSR.x.exit()
        end
        KSR.evapi.set_tag("client")
      elseif evname == "evapi:message-received" then
        KSR.evapi.relay_unicast(KSR.pv.getw("$evapi(msg)"), "client")
        KSR.evapi.relay_multicast(KSR.pv.getw("$evapi(msg)"), "others")
      end
      KSR.evapi.relay(KSR.pv.gete("$evapi(srcaddr)") .. ":" .. KSR.pv.gete("$evapi(srcport)") ..
        " " .. KSR.pv.gete("$evapi(conidx)") .. " [" .. KSR.pv.gete("$evapi(msg)") .. "]")
      return 1
    end
  )lua",
                config);
  CHECK(hooked.Do(New()) == Actions{"set_tag client", "relay 127.0.0.1:4000 7 []"});
  CHECK(hooked.log() ==
        Actions{"info hook: ===== evapi module triggered event: evapi:connection-new"});
  CHECK(hooked.Say("hello") == Actions{"unicast hello client", "multicast hello others",
                                       "relay 127.0.0.1:4000 7 [hello]"});
  CHECK(hooked.Do(Closed()) == Actions{"relay 127.0.0.1:4000 7 []"});
  HookEvent stranger = New();
  stranger.srcaddr = "192.0.2.7";
  CHECK(hooked.Do(stranger) == Actions{"close"});
}

TEST_CASE("KEMI's actions return 1 and -1") {
  CheckLua(
      "local e = KSR.evapi assert(e.relay('x') == 1 and e.relay('') == -1) "
      "assert(e.relay_unicast('x', 't') == 1 and e.relay_unicast('x', '') == -1) "
      "assert(e.relay_multicast('x', 't') == 1 and e.relay_multicast('', 't') == -1) "
      "assert(e.set_tag('t') == 1 and e.set_tag(('x'):rep(64)) == -1 and e.set_tag('') == 1) "
      "assert(e.close() == 1 and e.close() == -1 and e.set_tag('t') == -1) "
      "assert(e.relay('x') == -1)");
  Hooked("assert(KSR.evapi.relay('x') == -1 and KSR.evapi.close() == -1)");
}

TEST_CASE("both faces build one verdict") {
  Hooked hooked(
      OnMessage("evapi.set_tag('a') assert(KSR.pv.get('$evapi(tag)') == 'a') "
                "KSR.evapi.set_tag('b') assert(evapi.tag == 'b') KSR.evapi.close() "
                "assert(evapi.relay('x') == false)"));
  CHECK(hooked.Say("hello") == Actions{"set_tag a", "set_tag b", "close"});
}

TEST_CASE("KSR.pv knows the variables") {
  Hooked hooked(R"lua(
    local pv = KSR.pv
    local function check(name, value)
      name = "$evapi(" .. name .. ")"
      assert(pv.get(name) == value and math.type(pv.get(name)) == math.type(value))
      assert(pv.is_null(name) == (value == nil))
      if value == nil then
        assert(pv.gete(name) == "" and pv.getw(name) == "<null>")
      else
        assert(pv.gete(name) == value and pv.getw(name) == value)
      end
    end
    local function all(msg, tag, reason)
      check("srcaddr", "127.0.0.1")
      check("srcport", 4000)
      check("conidx", 7)
      check("msg", msg)
      check("tag", tag)
      check("reason", reason)
    end
    event_route["evapi:connection-new"] = function() all(nil, nil, nil) end
    event_route["evapi:message-received"] = function() all("hello", "t", nil) end
    event_route["evapi:connection-closed"] = function() all(nil, nil, "reset") end
    assert(pv.is_null("$evapi(srcaddr)") and pv.get("$evapi(conidx)") == nil)
  )lua");
  hooked.Do(New());
  HookEvent message = Message("hello");
  message.tag = "t";
  hooked.Do(message);
  hooked.Do(Closed(CloseReason::kReset));
}

TEST_CASE("any other variable is an error that says which there are") {
  const std::string name =
      GENERATE(as<std::string>{}, "$ru", "$evapi(mesg)", "$evapi()", "$evapi(", "$evapi",
               "evapi(msg)", "$evapi(msg", "$evapi(msg) ", "$evapi(msg]", "");
  const std::string function = GENERATE(as<std::string>{}, "get", "gete", "getw", "is_null");
  CHECK(Failure("KSR.pv." + function + "('" + name + "')") ==
        "hook.lua:1: " + name +
            " is not known here; there are $evapi(msg), $evapi(srcaddr), $evapi(srcport), "
            "$evapi(conidx), $evapi(tag), $evapi(reason), $evapi(peer_name)");
}

TEST_CASE("KSR writes to the log") {
  SetLogLevel(LogLevel::kDebug);
  Hooked hooked(
      OnMessage("KSR.dbg('a\\n') KSR.info('b\\n') KSR.notice('c') KSR.warn('d') "
                "KSR.err('e') KSR.crit('f') KSR.log('dbg', 'g') KSR.log('INFO', 'h') "
                "KSR.log('notice', 'i') KSR.log('warn', 'j') KSR.log('err', 'k') "
                "KSR.log('crit', 'l') KSR.log('loud', 'm\\r\\n')"));
  hooked.Say("hello");
  SetLogLevel(LogLevel::kInfo);
  CHECK(hooked.log() == Actions{"debug hook: a", "info hook: b", "info hook: c", "warn hook: d",
                                "error hook: e", "error hook: f", "debug hook: g", "info hook: h",
                                "info hook: i", "warn hook: j", "error hook: k", "error hook: l",
                                "error hook: m"});
}

TEST_CASE("KSR.x.exit ends the hook as a success, wherever it is called") {
  const std::string body = GENERATE(
      as<std::string>{}, "KSR.x.exit()", "pcall(KSR.x.exit)", "pcall(function() KSR.x.exit() end)",
      "xpcall(KSR.x.exit, function() evapi.relay('no') end)",
      "coroutine.wrap(function() KSR.x.exit() end)()",
      "coroutine.resume(coroutine.create(function() pcall(KSR.x.exit) evapi.relay('no') end))",
      "pcall(coroutine.wrap(function() coroutine.wrap(KSR.x.exit)() evapi.relay('no') end))",
      "string.gsub('x', 'x', function() KSR.x.exit() end)",
      "table.sort({1, 2, 3}, function() KSR.x.exit() end)",
      "local x <close> = setmetatable({}, {__close = function() evapi.relay('no') end}) "
      "KSR.x.exit()",
      "local t = setmetatable({}, {__index = KSR.x.exit}) local x = t.x",
      "while true do pcall(KSR.x.exit) end");
  CAPTURE(body);
  Hooked hooked(OnMessage("evapi.relay('yes') " + body + " evapi.relay('no') error('no')"));
  CHECK(hooked.Say("hello") == Actions{"relay yes"});
  CHECK(hooked.log().empty());
  CHECK(hooked.Say("hello") == Actions{"relay yes"});
}

TEST_CASE("KSR.x.exit where functions are looked up leaves none") {
  Config config = Patient();
  config.event_callback = "on_event";
  Hooked hooked("setmetatable(_G, {__index = function() KSR.x.exit() end})", config);
  CHECK(hooked.Run(Message("x")) == HookOutcome::kNoRoute);
}

TEST_CASE("KSR.x.exit ends the top level too") {
  Hooked hooked(OnMessage("evapi.relay('x')") + "\nKSR.x.exit()\nerror('no')");
  CHECK(hooked.Say("hello") == Actions{"relay x"});
}

}  // namespace
}  // namespace evrelay
