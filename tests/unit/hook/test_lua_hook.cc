#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <vector>

#include "support/catch.h"
#include "support/temporary_directory.h"
#include "unit/hook/hook_test.h"

namespace evrelay {
namespace {

using namespace std::string_literals;
using Actions = std::vector<std::string>;

Config WithCallback(const std::string& name) {
  Config config;
  config.event_callback = name;
  return config;
}

TEST_CASE("the example of the module's manual closes strangers") {
  Hooked hooked(R"lua(
    event_route["evapi:connection-new"] = function(evapi)
      if evapi.srcaddr ~= "127.0.0.1" then
        evapi.close()
        return
      end
    end
  )lua");
  CHECK(hooked.Do(New()).empty());
  HookEvent stranger = New();
  stranger.srcaddr = "192.0.2.7";
  CHECK(hooked.Do(stranger) == Actions{"close"});
}

TEST_CASE("the three event routes of the module's manual log what happens") {
  Hooked hooked(R"lua(
    event_route["evapi:connection-new"] = function(evapi)
      xlog("new connection from " .. evapi.srcaddr .. ":" .. evapi.srcport .. "\n")
    end
    event_route["evapi:connection-closed"] = function(evapi)
      xlog("connection closed by " .. evapi.srcaddr .. ":" .. evapi.srcport .. "\n")
    end
    event_route["evapi:message-received"] = function(evapi)
      xlog("received [" .. evapi.msg .. "] from " .. evapi.srcaddr .. ":" .. evapi.srcport .. "\n")
    end
  )lua");
  hooked.Do(New());
  CHECK(hooked.log() == Actions{"info hook: new connection from 127.0.0.1:4000"});
  hooked.Say("hello");
  CHECK(hooked.log() == Actions{"info hook: received [hello] from 127.0.0.1:4000"});
  hooked.Do(Closed());
  CHECK(hooked.log() == Actions{"info hook: connection closed by 127.0.0.1:4000"});
}

TEST_CASE("an event without a function finds no route") {
  Hooked hooked(OnMessage("evapi.relay('x')"));
  CHECK(hooked.Run(New()) == HookOutcome::kNoRoute);
  CHECK(hooked.Run(Closed()) == HookOutcome::kNoRoute);
  CHECK_FALSE(hooked.hook().Hears(HookEventKind::kConnectionNew));
  CHECK(hooked.hook().Hears(HookEventKind::kMessageReceived));
  CHECK(hooked.verdict().empty());
  CHECK(hooked.Run(Message("x")) == HookOutcome::kDone);
  CHECK(Hooked("").Run(Message("x")) == HookOutcome::kNoRoute);
}

TEST_CASE("event_callback hears the events that have no event_route") {
  Hooked hooked("function on_event(name) KSR.evapi.relay('callback ' .. name) end " +
                    OnMessage("evapi.relay('route')"),
                WithCallback("on_event"));
  CHECK(hooked.Do(New()) == Actions{"relay callback evapi:connection-new"});
  CHECK(hooked.Do(Closed()) == Actions{"relay callback evapi:connection-closed"});
  CHECK(hooked.Say("x") == Actions{"relay route"});
}

TEST_CASE("functions are found when the script has been loaded") {
  Hooked hooked(
      OnMessage("evapi.relay('first') "
                "if event_route then event_route['evapi:message-received'] = print end "
                "event_route = nil evapi = nil"));
  for (int i = 0; i < 3; ++i) CHECK(hooked.Say("x") == Actions{"relay first"});
}

TEST_CASE("event_route may be a table of the script's own") {
  Hooked hooked("event_route = {['evapi:connection-new'] = function() evapi.relay('x') end}");
  CHECK(hooked.Do(New()) == Actions{"relay x"});
}

TEST_CASE("a script may forbid undeclared globals") {
  Hooked hooked(
      "setmetatable(_G, {__index = function(_, name) error('undeclared ' .. name) end}) " +
      OnMessage("evapi.relay('x')"));
  CHECK(hooked.Say("x") == Actions{"relay x"});
}

TEST_CASE("globals live from event to event, in each state its own") {
  const std::string script = "n = 0 " + OnMessage("n = n + 1 evapi.relay(n)");
  Hooked one(script);
  Hooked other(script);
  CHECK(one.Say("x") == Actions{"relay 1"});
  CHECK(one.Say("x") == Actions{"relay 2"});
  CHECK(other.Say("x") == Actions{"relay 1"});
}

TEST_CASE("what does not load says where and why") {
  struct Case {
    std::string script;
    std::string error;
  };
  const auto& [script, error] = GENERATE(values<Case>({
      {"x = = 1", "hook.lua:1: unexpected symbol near '='"},
      {"\n\nif true", "hook.lua:3: 'then' expected near <eof>"},
      {"\nlocal x = nil + 1", "hook.lua:2: attempt to perform arithmetic on a nil value"},
      {"error('so it is')", "hook.lua:1: so it is"},
      {"\nerror('so it is', 0)", "hook.lua:2: so it is"},
      {"\nerror({})", "hook.lua:2: an error that is a table, not a text"},
      {"\nevapi.relay()", "hook.lua:2: bad argument #1 to 'relay' (string expected, got no value)"},
      {"local function f()\n error('deep') end\nf()", "hook.lua:2: deep"},
      {"event_route = nil", "hook.lua: event_route must stay a table; it is a nil"},
      {"event_route['evapi:message-received'] = 'f'",
       "hook.lua: event_route[\"evapi:message-received\"] must be a function; it is a string"},
      {"\nevent_route['evapi:message_received'] = function() end",
       "hook.lua:2: event_route[\"evapi:message_received\"]: there is no such event; did you mean "
       "\"evapi:message-received\"? There are evapi:connection-new, evapi:message-received, "
       "evapi:connection-closed"},
      {"event_route['evapi:connection-close'] = function() end",
       "hook.lua:1: event_route[\"evapi:connection-close\"]: there is no such event; did you mean "
       "\"evapi:connection-closed\"? There are evapi:connection-new, evapi:message-received, "
       "evapi:connection-closed"},
      {"event_route[1] = function() end",
       "hook.lua:1: event_route[\"1\"]: there is no such event; did you mean "
       "\"evapi:connection-new\"? There are evapi:connection-new, evapi:message-received, "
       "evapi:connection-closed"},
      {"event_route['evapi:message-received'] = print\nevent_route[('x'):rep(100)] = print",
       "hook.lua: event_route[\"" + std::string(100, 'x') +
           "\"]: there is no such event; did you mean \"evapi:connection-new\"? There are "
           "evapi:connection-new, evapi:message-received, evapi:connection-closed"},
  }));
  CAPTURE(script);
  CHECK(LoadError(script) == error);
}

TEST_CASE("event_callback must name a function") {
  const std::string error =
      "hook.lua: there is no global function on_event, which event_callback names";
  CHECK(LoadError("", WithCallback("on_event")) == error);
  CHECK(LoadError("on_event = 1", WithCallback("on_event")) == error);
  CHECK(LoadError("local function on_event() end", WithCallback("on_event")) == error);
}

TEST_CASE("bytecode is not loaded") {
  CHECK(LoadError("\x1bLua\x54"s).find("attempt to load a binary chunk") != std::string::npos);
}

TEST_CASE("a top level that fails after it has said something says both") {
  std::string error;
  const auto log = LogOf([&] {
    CHECK(LoadLuaHook({}, {kFile, "print('so far', 1)\nerror('no further')"}, error) == nullptr);
  });
  CHECK(error == "hook.lua:2: no further");
  CHECK(log == Actions{"info hook: so far\\x091"});
}

TEST_CASE("ReadScript takes a file as it is") {
  const TemporaryDirectory directory;
  Config config;
  config.script = directory / "hook.lua";
  const std::string text = "-- \0\r\n\xff"s;
  std::ofstream(config.script, std::ios::binary) << text;
  Script script;
  std::string error;
  REQUIRE(ReadScript(config, script, error));
  CHECK(script.path == config.script);
  CHECK(script.text == text);
}

TEST_CASE("ReadScript says what is wrong with a file") {
  const TemporaryDirectory directory;
  Config config;
  Script script;
  std::string error;
  SECTION("missing") {
    config.script = directory / "none.lua";
    CHECK_FALSE(ReadScript(config, script, error));
    CHECK(error == config.script + ": cannot read the script: No such file or directory");
  }
  SECTION("a directory") {
    config.script = directory / "";
    CHECK_FALSE(ReadScript(config, script, error));
    CHECK(error == config.script + ": not a regular file; script must name a Lua file");
  }
  SECTION("a FIFO nobody writes to") {
    config.script = directory / "fifo";
    REQUIRE(::mkfifo(config.script.c_str(), 0600) == 0);
    CHECK_FALSE(ReadScript(config, script, error));
    CHECK(error == config.script + ": not a regular file; script must name a Lua file");
  }
  SECTION("too large") {
    config.script = directory / "large.lua";
    std::ofstream(config.script) << std::string((1 << 20) + 1, ' ');
    CHECK_FALSE(ReadScript(config, script, error));
    CHECK(error == config.script + ": larger than 1 MiB; a script may have at most that");
    REQUIRE(::truncate(config.script.c_str(), 1 << 20) == 0);
    CHECK(ReadScript(config, script, error));
  }
}

}  // namespace
}  // namespace evrelay
