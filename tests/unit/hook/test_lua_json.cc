#include <string>

#include "support/catch.h"
#include "unit/hook/hook_test.h"

namespace evrelay {
namespace {

TEST_CASE("json decodes what JSON can say") {
  CheckLua(R"lua(
    local t = json.decode('{"a": [1, 2.5, "x\\u00e9\\n", true, false, null], "b": {"c": {}}}')
    assert(t.a[1] == 1 and t.a[2] == 2.5 and t.a[3] == "x\u{e9}\n")
    assert(t.a[4] == true and t.a[5] == false and t.a[6] == json.null and t.a[6] ~= nil)
    assert(#t.a == 6 and next(t.b.c) == nil)
    assert(json.decode('"x"') == "x" and json.decode(" 7 ") == 7 and json.decode("[]")[1] == nil)
  )lua");
}

TEST_CASE("whole numbers are integers") {
  CheckLua(R"lua(
    local t = json.decode('{"n": 12, "list": [1, [2, 1.5]], "e": 1e3, "minus": -3, "big": 1e300}')
    assert(tostring(t.n) == "12" and tostring(t.list[1]) == "1" and tostring(t.list[2][1]) == "2")
    assert(math.type(t.list[2][2]) == "float" and math.type(t.e) == "integer" and t.minus == -3)
    assert(t.big == 1e300 and tostring(json.decode("5")) == "5")
    assert(json.encode(t.list) == "[1,[2,1.5]]")
    assert(json.decode('["12"]')[1] == "12" and json.decode('"12"') == "12")
  )lua");
}

TEST_CASE("what is not JSON is an error that says where") {
  CHECK(Failure("json.decode('{\"a\": x}')") ==
        "hook.lua:1: json.decode: Expected value but found invalid token at character 7");
  CheckLua(R"lua(
    for _, text in ipairs({"", "{", "[1,]", "nul", "NaN", "0x10", "inf", "'x'", "[1] 2", "\0"}) do
      assert(not pcall(json.decode, text), text)
    end
    assert(not pcall(json.decode) and not pcall(json.decode, nil) and not pcall(json.decode, {}))
    assert(pcall(json.decode, ("["):rep(1000) .. ("]"):rep(1000)))
    assert(not pcall(json.decode, ("["):rep(1001) .. ("]"):rep(1001)))
  )lua");
}

TEST_CASE("json encodes what JSON can say") {
  CheckLua(R"lua(
    assert(json.encode({1, 2.5, "x\n\"", true, json.null}) == '[1,2.5,"x\\n\\"",true,null]')
    assert(json.encode({a = {b = 1}}) == '{"a":{"b":1}}' and json.encode({}) == "{}")
    assert(json.encode("x") == '"x"' and json.encode(nil) == "null" and json.encode(12) == "12")
    assert(json.encode({[1] = 1, [3] = 3}) == "[1,null,3]")
    local text = json.encode({ok = true, error = nil})
    assert(text == '{"ok":true}')
  )lua");
}

TEST_CASE("a whole number that would be rounded is an error") {
  CheckLua(R"lua(
    assert(json.encode(99999999999999) == "99999999999999")
    assert(json.encode(-99999999999999) == "-99999999999999")
    assert(not pcall(json.encode, 100000000000000) and not pcall(json.encode, -100000000000000))
    assert(not pcall(json.encode, math.mininteger) and not pcall(json.encode, {a = {1 << 53}}))
    assert(json.encode(1e20) == "1e+20")
  )lua");
  CHECK(Failure("json.encode({12345678901234567})") ==
        "hook.lua:1: json.encode: 12345678901234567 has more than 14 digits; give it as a text");
}

TEST_CASE("what JSON cannot say is an error") {
  CHECK(Failure("json.encode({f = print})") ==
        "hook.lua:1: Cannot serialise function: type not supported");
  CheckLua(R"lua(
    assert(not pcall(json.encode) and not pcall(json.encode, 0/0) and not pcall(json.encode, 1/0))
    assert(not pcall(json.encode, {[{}] = 1}) and not pcall(json.encode, {[1000] = 1}))
    local circle = {}
    circle[1] = circle
    assert(not pcall(json.encode, circle))
    local deep = {}
    for i = 1, 998 do deep = {deep} end
    assert(json.encode(deep))
    assert(not pcall(json.encode, {{{deep}}}))
  )lua");
}

TEST_CASE("json is bounded by hook.memory") {
  Config config = Patient();
  config.hook.memory = 2 * kMiB;
  config.hook.timeout = std::chrono::seconds(10);
  CHECK(Failure("json.decode(('x'):rep(65537))", config) ==
        "hook.lua:1: json.decode: 65537 bytes are too many; hook.memory allows 65536");
  CHECK(Failure("json.decode(('x'):rep(65536))", config)
            .starts_with("hook.lua:1: json.decode: Expected value"));
  CHECK(Failure("json.encode({[('x'):rep(1 << 19)] = 1})", config) ==
        "hook.lua:1: json.encode: the value is too large for hook.memory");
  // An hour's work, were it begun.
  const std::string tree = "local t = {} for i = 1, 60 do t = {t, t} end ";
  CHECK(Failure(tree + "json.encode(t)", config) ==
        "hook.lua:1: json.encode: the value is too large for hook.memory");
  CHECK(Failure("json.encode(('x'):rep(1 << 19))", config) ==
        "hook.lua:1: json.encode: the value is too large for hook.memory");
  CheckLua("assert(#json.encode(('\\1'):rep(1 << 18)) == (1 << 18) * 6 + 2)", config);
}

TEST_CASE("decoding may go beyond hook.memory, but not keep what it made") {
  Config config = Patient();
  config.hook.memory = 1 * kMiB;
  config.hook.timeout = std::chrono::seconds(10);
  // Some 34 bytes for each of its own.
  const std::string text =
      "local text = '[' .. ('[[[[]]]],'):rep(3600) .. '1]' local ok, t = pcall(json.decode, text) ";
  CHECK(Hooked(OnMessage(text + "t = nil evapi.relay(tostring(ok) .. #text)"), config).Say("x") ==
        std::vector<std::string>{"relay true32403"});
  Hooked hooked(OnMessage(text + "assert(ok) kept = tostring(ok) .. #text"), config);
  CHECK(hooked.Run(Message("x")) == HookOutcome::kMemory);
}

}  // namespace
}  // namespace evrelay
