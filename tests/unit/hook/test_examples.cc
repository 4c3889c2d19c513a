// The scripts in config/hooks.

#include <string>
#include <vector>

#include "support/catch.h"
#include "unit/hook/hook_test.h"

namespace evrelay {
namespace {

using Actions = std::vector<std::string>;

Hooked Example(const std::string& name) {
  Config config = Patient();
  config.script = EVRELAY_HOOKS "/" + name;
  Script script;
  std::string error;
  INFO(error);
  REQUIRE(ReadScript(config, script, error));
  return Hooked(script.text);
}

HookEvent Tagged(HookEvent event, std::string_view tag) {
  event.tag = tag;
  return event;
}

TEST_CASE("echo.lua answers with what was said") {
  CHECK(Example("echo.lua").Say("hello") == Actions{"reply hello"});
}

TEST_CASE("chat.lua lets subscribers talk") {
  Hooked chat = Example("chat.lua");
  CHECK(chat.Do(New()) == Actions{"reply Your name?"});
  CHECK(chat.Say("alice") == Actions{"set_tag alice", "relay alice has come"});
  CHECK(chat.Say(std::string(64, 'x')) == Actions{"reply A name has at most 63 bytes. Your name?"});
  CHECK(chat.Do(Tagged(Message("hi"), "alice")) == Actions{"relay alice: hi"});
  CHECK(chat.Do(Tagged(Message("@bob hi there"), "alice")) ==
        Actions{"multicast alice to you: hi there bob"});
  CHECK(chat.Do(Tagged(Closed(), "alice")) == Actions{"relay alice has left"});
  CHECK(chat.Do(Closed()).empty());
}

TEST_CASE("allow-list.lua closes strangers") {
  Hooked list = Example("allow-list.lua");
  CHECK(list.Do(New()).empty());
  HookEvent stranger = New();
  stranger.srcaddr = "198.51.100.1";
  CHECK(list.Do(stranger) == Actions{"close"});
  CHECK(list.log() == Actions{"warn hook: refused 198.51.100.1:4000"});
  stranger.srcaddr = "unix";
  CHECK(list.Do(stranger).empty());
}

TEST_CASE("commands.lua obeys requests in JSON") {
  Hooked commands = Example("commands.lua");
  const auto refused = [&](const std::string& request) {
    const Actions actions = commands.Say(request);
    REQUIRE(actions.size() == 1);
    return actions[0].starts_with("reply {") &&
           actions[0].find("\"ok\":false") != std::string::npos &&
           actions[0].find("\"error\":\"") != std::string::npos;
  };
  CHECK(commands.Say(R"({"command": "ping"})") == Actions{R"(reply {"ok":true})"});
  CHECK(commands.Say(R"({"command": "subscribe", "tag": "calls"})") ==
        Actions{"set_tag calls", R"(reply {"ok":true})"});
  CHECK(commands.Say(R"({"command": "subscribe", "tag": ""})") ==
        Actions{"set_tag ", R"(reply {"ok":true})"});
  CHECK(refused(R"({"command": "subscribe"})"));
  CHECK(refused(R"({"command": "subscribe", "tag": ")" + std::string(64, 'x') + R"("})"));
  CHECK(refused(R"({"command": "dance"})"));
  CHECK(refused(R"({"command": null})"));
  CHECK(refused("{}"));
  CHECK(refused("12"));
  CHECK(refused("no JSON"));
}

}  // namespace
}  // namespace evrelay
