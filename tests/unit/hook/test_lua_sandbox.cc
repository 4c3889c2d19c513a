#include <string>
#include <vector>

#include "support/catch.h"
#include "unit/hook/hook_test.h"

namespace evrelay {
namespace {

TEST_CASE("a script finds these globals and no others") {
  CheckLua(R"lua(
    local wanted = {}
    for name in ([[_G _VERSION assert collectgarbage error getmetatable ipairs load next pairs pcall
                   print rawequal rawget rawlen rawset select setmetatable tonumber tostring type
                   xpcall coroutine math os string table utf8
                   evapi event_route json xlog KSR]]):gmatch("%S+") do
      wanted[name] = true
    end
    for name in pairs(_G) do assert(wanted[name], name) end
    for name in pairs(wanted) do assert(_G[name] ~= nil, name) end
  )lua");
}

TEST_CASE("libraries have nothing that reaches out") {
  CheckLua(R"lua(
    local function names(t)
      local all = {}
      for name in pairs(t) do all[#all + 1] = name end
      table.sort(all)
      return table.concat(all, " ")
    end
    assert(names(os) == "clock date time")
    assert(names(coroutine) == "create isyieldable resume running status wrap yield")
    assert(names(json) == "decode encode null")
    assert(string.dump == nil)
    assert(os.time() > 1e9 and type(os.clock()) == "number" and #os.date("%Y") == 4)
  )lua");
}

TEST_CASE("patterns can be taken away") {
  Config config = Patient();
  config.hook.patterns = false;
  CheckLua(
      "for _, name in ipairs({'find', 'match', 'gmatch', 'gsub'}) do assert(not string[name]) end "
      "assert(('x'):upper() == 'X')",
      config);
  CheckLua("assert(('key=value'):match('=(.*)') == 'value' and ('abc'):find('c', 1, true) == 3)");
}

TEST_CASE("load takes text only") {
  CheckLua(R"lua(
    assert(load("return type(1)")() == "number" and load("return ...", "name")(2) == 2)
    assert(load("return x", "name", "t", {x = 3})() == 3)
    assert(load("return x", "name", "bt", {x = 3})() == 3)
    assert(not pcall(load("return x.y", "name", "t", nil)))
    local chunk, why = load("= 1", "=here")
    assert(chunk == nil and why == "here:1: unexpected symbol near '='", why)
    chunk, why = load("\27Lua", "bytes", "b")
    assert(chunk == nil and why:find("attempt to load a binary chunk", 1, true), why)
    assert(load((" "):rep(1 << 20)))
    assert(not pcall(load, (" "):rep((1 << 20) + 1)))
    assert(not pcall(load, function() return nil end))
  )lua");
}

TEST_CASE("collectgarbage only counts") {
  CheckLua("assert(collectgarbage('count') > 1)");
  CHECK(Failure("collectgarbage()") ==
        "hook.lua:1: bad argument #1 to 'collectgarbage' (only \"count\" is available here)");
  CHECK(Failure("collectgarbage('stop')") ==
        "hook.lua:1: bad argument #1 to 'collectgarbage' (only \"count\" is available here)");
}

TEST_CASE("metatables are as ever, but without __gc") {
  CheckLua(R"lua(
    local t = setmetatable({}, {__index = {a = 1}, __call = function(_, x) return x end})
    assert(t.a == 1 and t(2) == 2 and getmetatable(t).__index.a == 1)
    assert(getmetatable(setmetatable(t, nil)) == nil)
    assert(not pcall(setmetatable, 1, {}) and not pcall(setmetatable, {}, 1))
    assert(not pcall(setmetatable, setmetatable({}, {__metatable = 1}), {}))
    setmetatable({}, setmetatable({}, {__index = {__gc = print}}))  -- Lua does not look there
  )lua");
  CHECK(Failure("setmetatable({}, {__gc = function() end})") ==
        "hook.lua:1: bad argument #2 to 'setmetatable' (__gc is not available here)");
}

TEST_CASE("xpcall is as ever") {
  CheckLua(R"lua(
    local ok, a, b = xpcall(function(...) return ... end, print, 1, 2)
    assert(ok and a == 1 and b == 2)
    ok, a = xpcall(function() error("x", 0) end, function(e) return "handled " .. e end)
    assert(not ok and a == "handled x")
    ok, a = xpcall(error, function(e) return e.code end, {code = 7})
    assert(not ok and a == 7)
    assert(not pcall(xpcall, print, {}))
    local co = coroutine.wrap(function()
      return xpcall(function() return coroutine.yield(1) + 1 end, print)
    end)
    assert(co() == 1)
    ok, a = co(41)
    assert(ok and a == 42)
  )lua");
}

TEST_CASE("coroutines are as ever") {
  CheckLua(R"lua(
    local co = coroutine.create(function(a, b)
      local c = coroutine.yield(a + b)
      error({c})
    end)
    local ok, value = coroutine.resume(co, 1, 2)
    assert(ok and value == 3 and coroutine.status(co) == "suspended")
    ok, value = coroutine.resume(co, "c")
    assert(not ok and value[1] == "c" and coroutine.status(co) == "dead")
    ok, value = coroutine.resume(co)
    assert(not ok and value == "cannot resume dead coroutine")

    local squares = {}
    for n in coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i * i) end end) do
      squares[#squares + 1] = n
    end
    assert(table.concat(squares, " ") == "1 4 9")
    local many = coroutine.wrap(function(...) return ..., select("#", ...) end)
    assert(select("#", many(nil, nil, nil)) == 2)

    local failing = coroutine.wrap(function() error("inside") end)
    ok, value = pcall(function() failing() end)
    assert(value:find("^hook.lua:%d+: hook.lua:%d+: inside$"), value)
    ok, value = pcall(coroutine.wrap(function() error({"table"}) end))
    assert(not ok and value[1] == "table")
    assert(not pcall(coroutine.wrap, 1) and not pcall(coroutine.create, 1))
  )lua");
}

TEST_CASE("tables are as ever") {
  CheckLua(R"lua(
    local t = {}
    table.insert(t, "b") table.insert(t, 1, "a") table.insert(t, "c")
    assert(table.concat(t) == "abc" and table.concat(t, ",", 2, 3) == "b,c")
    assert(table.concat(t, "", 2) == "bc" and table.concat(t, "", 3, 2) == "")
    assert(table.remove(t) == "c" and table.remove(t, 1) == "a" and #t == 1)
    assert(table.remove({}) == nil)
    t = {3, 1, 2}
    table.sort(t)
    assert(table.concat(t) == "123")
    table.sort(t, function(a, b) return a > b end)
    assert(table.concat(t) == "321")
    table.sort(t, nil)
    t = {"b", "a"} table.sort(t)
    assert(t[1] == "a" and not pcall(table.sort, {1, "a"}))
    local by_metamethod = {__lt = function(a, b) return a.n < b.n end}
    t = {setmetatable({n = 2}, by_metamethod), setmetatable({n = 1}, by_metamethod)}
    table.sort(t)
    assert(t[1].n == 1)
    t = table.move({1, 2, 3}, 1, 3, 2)
    assert(table.concat(t) == "1123" and #table.move({1, 2}, 1, 2, 1, {}) == 2)
    assert(#table.move({}, math.maxinteger, math.mininteger, 1) == 0)
    assert(select("#", table.unpack({1, 2, nil, 4}, 1, 4)) == 4)
    -- An object with methods is a list like others.
    local list = setmetatable({}, {__index = {push = table.insert}})
    list:push("x")
    assert(list[1] == "x" and table.concat(list) == "x")
  )lua");
}

TEST_CASE("tables with metamethods are as ever, short ones and long ones") {
  CheckLua(R"lua(
    for _, count in ipairs({3, 100, 101, 500}) do
      local plain = {}
      local object = setmetatable({}, {__index = table})
      local function both(name, ...)
        local a, b = table[name](plain, ...), object[name](object, ...)
        assert(a == b or a == plain and b == object, name)
        for i = 1, count + 5 do assert(plain[i] == rawget(object, i), name) end
      end
      for i = 1, count do both("insert", i * 7919 % 1009) end
      both("sort")
      both("sort", function(a, b) return a > b end)
      both("sort", math.ult)
      both("insert", 2, -1)
      both("remove", 1)
      both("remove")
      both("move", 1, count - 1, 2)
      both("move", 2, count, 1)
      both("concat", ",")
      both("concat", ",", 2, count - 1)
      both("unpack")
      assert(select("#", object:unpack()) == #plain)
      assert(table.move(object, 1, count, 1, object) == object)

      -- Elements may come from anywhere, and go there.
      local written = {}
      local proxy = setmetatable({}, {__index = plain, __newindex = written,
                                      __len = function() return count end})
      assert(select("#", table.unpack(proxy)) == count)
      assert(table.move(proxy, 1, count, 5, {})[count + 4] == plain[count])
      assert(table.move(plain, 1, count, 1, proxy) == proxy)
      assert(written[count] == plain[count] and rawlen(proxy) == 0)
    end
  )lua");
}

TEST_CASE("errors of table functions name the function and the line") {
  CHECK(Failure("table.insert(nil, 1)") ==
        "hook.lua:1: bad argument #1 to 'insert' (table expected, got nil)");
  CHECK(Failure("table.insert({}, 1, 2, 3)") ==
        "hook.lua:1: wrong number of arguments to 'insert'");
  CHECK(Failure("table.concat({{}})").ends_with("in table for 'concat'"));
  CHECK(Failure("table.sort({1, 2}, 3)") ==
        "hook.lua:1: bad argument #2 to 'sort' (function expected, got number)");
  CHECK(Failure("table.move({}, 1)") ==
        "hook.lua:1: bad argument #3 to 'move' (number expected, got no value)");
}

TEST_CASE("string.rep is as ever") {
  CheckLua(
      "assert(('ab'):rep(3) == 'ababab' and ('ab'):rep(2, '-') == 'ab-ab') "
      "assert(('x'):rep(0) == '' and ('x'):rep(-1) == '' and (''):rep(3, '-') == '--') "
      "assert((''):rep(1 << 62) == '' and (''):rep(1 << 62, '') == '') "
      "assert(not pcall(string.rep, '') and not pcall(string.rep, 'x', {}))");
}

}  // namespace
}  // namespace evrelay
