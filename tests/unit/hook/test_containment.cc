// Scripts that run wild. Times are CPU times of this thread.

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "support/catch.h"
#include "unit/hook/hook_test.h"

namespace evrelay {
namespace {

using namespace std::chrono_literals;
using Actions = std::vector<std::string>;

// More than any run here takes that is stopped, on whatever machine and under a sanitizer; what
// nothing stops takes longer. How late a stop may be: bar 23 of the daemon tests.
constexpr auto kSoon = 1s;

std::chrono::nanoseconds CpuTime() {
  timespec now;
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

Config With(std::chrono::milliseconds timeout, std::uint64_t memory = 16 * kMiB) {
  Config config;
  config.hook.timeout = timeout;
  config.hook.memory = memory;
  return config;
}

// A state that says `fine`, whatever has been done to it.
std::string Wild(const std::string& body) {
  return OnMessage("if evapi.msg == 'fine?' then evapi.relay('fine') return end " + body);
}

TEST_CASE("what never ends is stopped when its time is over") {
  const std::string body = GENERATE(
      as<std::string>{}, "while true do end", "goto again ::again:: goto again",
      "for i = 1, math.huge do end", "local function f() return f() end f()",
      "while true do pcall(error) end", "while true do pcall(function() while true do end end) end",
      "while true do pcall(pcall, pcall, function() while true do end end) end",
      "coroutine.wrap(function() while true do end end)()",
      "while true do coroutine.wrap(function() while true do end end)() end",
      "while true do pcall(coroutine.wrap(function() while true do end end)) end",
      "while true do coroutine.resume(coroutine.create(function() "
      "  while true do pcall(function() while true do end end) end end)) end",
      "while true do coroutine.create(function() end) end",
      "local co = coroutine.wrap(function() while true do coroutine.yield() end end) "
      "while true do co() end",
      "xpcall(function() while true do end end, function() while true do end end)",
      "xpcall(function() error('x') end, function() while true do end end)",
      "while true do xpcall(error, error) end",
      "local x <close> = setmetatable({}, {__close = function() while true do end end}) "
      "while true do end",
      "local t = setmetatable({}, {__index = function(t, k) return t[k + 1] end}) "
      "while true do pcall(function() return t[1] end) end",
      "while true do string.gsub('x', 'x', function() pcall(error) end) end",
      "table.sort({3, 2, 1}, function() while true do end end)",
      "tostring(setmetatable({}, {__tostring = function() while true do end end}))",
      "while true do evapi.relay('never') end", "while true do xlog('L_DBG', 'never') end",
      "while true do KSR.pv.get('$evapi(msg)') end", "while true do json.decode('[1]') end",
      "while true do pcall(json.decode, '[') end",
      // One instruction may take a millisecond.
      "local s = ('x'):rep(5e6) while true do local t = s .. 'y' end",
      "local s = ('x'):rep(2e6) while true do s:upper() end",
      "local t = {} for i = 1, 1e5 do t[i] = i end "
      "while true do table.insert(t, 1, 1) table.remove(t, 1) end",
      "local s = ('x'):rep(5e5) while true do s:find('[y]') end",
      "local s = ('x'):rep(5e5) while true do s:match('[y]') end",
      "local s = ('x'):rep(5e5) while true do s:gsub('[y]', '') end",
      "local t = 1 for i = 1, 40 do t = {t, t} end while true do pcall(json.encode, t) end",
      "local s = '[' .. ('[],'):rep(1e5) .. '1]' while true do json.decode(s) end",
      "local s = ('x'):rep(5e5) while true do utf8.len(s) end",
      "local t = {} for i = 1, 2e5 do t[i] = i * 7919 % 100003 end table.sort(t)",
      // One element may be looked for in thousands of tables.
      "local t = {} for i = 1, 1990 do t = setmetatable({}, {__index = t}) end "
      "table.move(t, 1, 1000000, 1, {})",
      "local t = {} for i = 1, 1e5 do t[i] = '' end "
      "for i = 1, 1990 do t = setmetatable({}, {__index = t}) end table.concat(t, '', 1, 100000)",
      "local t = {} for i = 1, 1990 do t = setmetatable({}, {__index = t}) end "
      "table.unpack(t, 1, 100000)",
      "local t = {} for i = 1, 1 << 16 do t[i] = i end for i = 1, (1 << 16) - 1 do t[i] = nil end "
      "local u = {} for i = 1, 1990 do u = setmetatable({}, {__index = u}) end "
      "assert(#setmetatable(t, {__index = u}) == 1 << 16) table.insert(t, 1, 0)",
      "local t = {} for i = 1, 1 << 16 do t[i] = i end for i = 1, (1 << 16) - 1 do t[i] = nil end "
      "local u = {} for i = 1, 1990 do u = setmetatable({}, {__index = u}) end "
      "assert(#setmetatable(t, {__index = u}) == 1 << 16) table.remove(t, 1)",
      "local t = {} for i = 1, 1e5 do t[i] = i end for i = 1, 1e5 do t[i] = nil end "
      "table.move(setmetatable(t, {__index = next}), 1, 100000, 1, {})",
      "local s = '1' .. (' '):rep(1e6) local t = {} for i = 1, 1e4 do t[i] = s end "
      "table.sort(t, math.ult)",
      // Deep in coroutines, each of which could begin others.
      "local function f(depth) "
      "  local co = coroutine.create(function() while true do pcall(f, depth + 1) end end) "
      "  while true do coroutine.resume(co) co = coroutine.create(f) end end f(0)");
  CAPTURE(body);
  Hooked hooked(Wild(body), With(30ms));
  for (int i = 0; i < 3; ++i) {
    const auto before = CpuTime();
    CHECK(hooked.Run(Message("wild")) == HookOutcome::kTimeout);
    const auto took = CpuTime() - before;
    CHECK(took > 28ms);
    CHECK(took < kSoon);
    CHECK(hooked.verdict().empty());
    REQUIRE(hooked.log().size() <= 1);  // the others are limited
    CHECK(hooked.Say("fine?") == Actions{"relay fine"});
  }
}

TEST_CASE("the log says where the time was over") {
  Hooked hooked("local function endless()\n  while true do end\nend\n" +
                    OnMessage("pcall(coroutine.wrap(endless))"),
                With(20ms));
  CHECK(hooked.Run(Message("x")) == HookOutcome::kTimeout);
  CHECK(hooked.log() ==
        Actions{"error hook: evapi:message-received of conidx 7 (127.0.0.1:4000): hook.lua:2: "
                "stopped after 20 ms of CPU time"});
}

TEST_CASE("a top level gets one second") {
  const auto before = CpuTime();
  CHECK(LoadError("\nwhile true do pcall(error) end") ==
        "hook.lua:2: stopped after 1000 ms of CPU time");
  const auto took = CpuTime() - before;
  CHECK(took > 990ms);
  CHECK(took < 1s + kSoon);
}

TEST_CASE("only CPU time counts") {
  Hooked hooked(OnMessage("xlog('x') for i = 1, 1e5 do end evapi.relay('done')"), With(20ms));
  ShutDownLogging();
  CapturedStderr stuck;  // nobody reads it: the line waits 100 ms and is lost
  REQUIRE(::fcntl(STDERR_FILENO, F_SETFL, O_WRONLY | O_NONBLOCK) == 0);
  while (::write(STDERR_FILENO, "", 1) == 1) {
  }
  const auto began = std::chrono::steady_clock::now();
  Verdict verdict;
  CHECK(hooked.hook().Run(Message("x"), verdict) == HookOutcome::kDone);
  CHECK(std::chrono::steady_clock::now() - began >= 100ms);
  CHECK(verdict.actions().size() == 1);
  ShutDownLogging();
}

TEST_CASE("a state may be used on another thread than it was built on") {
  Hooked hooked(Wild("while true do end"), With(20ms));
  const auto spent = CpuTime() + 100ms;
  while (CpuTime() < spent) {
  }
  LogOf([&] {
    Verdict verdict;
    CHECK(hooked.hook().Run(Message("fine?"), verdict) == HookOutcome::kDone);
    std::thread([&] {
      for (int i = 0; i < 2; ++i) {
        const auto before = CpuTime();
        CHECK(hooked.hook().Run(Message("wild"), verdict) == HookOutcome::kTimeout);
        const auto took = CpuTime() - before;
        CHECK(took > 18ms);
        CHECK(took < kSoon);
        CHECK(hooked.hook().Run(Message("fine?"), verdict) == HookOutcome::kDone);
        verdict.Clear();
      }
    }).join();
  });
  CHECK(hooked.Say("fine?") == Actions{"relay fine"});
}

TEST_CASE("what would run for ever in C is refused") {
  struct Case {
    std::string body;
    std::string error;
  };
  const auto& [body, error] = GENERATE(values<Case>({
      {"table.move({}, 1, 1 << 62, 2)", "more elements than hook.memory could hold"},
      {"table.move({}, math.mininteger, -1, 2)", "more elements than hook.memory could hold"},
      {"table.concat({}, '', 1, 1 << 62)", "more elements than hook.memory could hold"},
      {"table.concat(setmetatable({}, {__index = string.sub}), '', math.mininteger, 1 << 62)",
       "more elements than hook.memory could hold"},
      {"local t = sparse() table.concat(t)", "more elements than hook.memory could hold"},
      {"local t = sparse() table.sort(t)", "more elements than hook.memory could hold"},
      {"local t = sparse() table.insert(t, 1, '')", "more elements than hook.memory could hold"},
      {"local t = sparse() table.remove(t, 1)", "more elements than hook.memory could hold"},
      {"table.remove(setmetatable({}, {__len = function() return 1 << 62 end}), 1)",
       "bad argument #1 to 'remove' (a table with __len is not taken here)"},
      {"table.sort(setmetatable({}, {__len = function() return 1 << 30 end}))",
       "bad argument #1 to 'sort' (a table with __len is not taken here)"},
      {"table.concat(setmetatable({}, {__len = function() return 1 << 62 end}))",
       "bad argument #1 to 'concat' (a table with __len is not taken here)"},
      {"local s = getmetatable('') s.__index = string.sub s.__len = function() return 1 << 62 end "
       "table.concat('x')",
       "bad argument #1 to 'concat' (table expected, got string)"},
      {"table.unpack({}, 1, 1 << 62)", "too many results to unpack"},
      {"load(os.time)", "bad argument #1 to 'load' (string expected, got function)"},
  }));
  CAPTURE(body);
  // Some seventy elements, and its length is 1 << 62.
  const std::string sparse =
      "local function sparse() local t = {1, 2, 3, 4, 5} for i = 3, 62 do t[1 << i] = i end "
      "t[9] = 9 assert(#t == 1 << 62) return t end ";
  CHECK(Failure(sparse + body) == "hook.lua:1: " + error);
}

TEST_CASE("no code of a script runs where it could not be stopped") {
  Hooked hooked(
      "local endless = {__close = function() while true do end end}\n"
      "event_route['evapi:connection-new'] = function()\n"
      "  co = coroutine.create(function()\n"
      "    local x <close> = setmetatable({}, endless)\n"
      "    table.sort({1, 2, 3}, function() while true do end end)\n"
      "  end)\n"
      "  coroutine.resume(co)\n"
      "end\n" +
          OnMessage("assert(not coroutine.resume(co)) co = nil "
                    "for i = 1, 1000 do local garbage = {} end evapi.relay('fine')"),
      With(20ms));
  CHECK(hooked.Run(New()) == HookOutcome::kTimeout);
  CHECK(hooked.Say("x") == Actions{"relay fine"});
}

TEST_CASE("a memory bomb ends at the limit, and the state goes on") {
  const std::string body = GENERATE(
      as<std::string>{}, "local t = {} while true do t[#t + 1] = {} end",
      "local s = 'x' while true do s = s .. s end", "local t = {} while true do t = {t} end",
      "local function f() return 1 + f() end f()",
      "local t = {} while true do t[#t + 1] = coroutine.create(function() end) end",
      "string.rep('x', 1 << 30)", "string.pack('c2000000000', 'x')",
      "coroutine.wrap(function() local t = {} while true do t[#t + 1] = {} end end)()",
      "local ok, e = pcall(string.rep, 'x', 1 << 30) error(e)");
  CAPTURE(body);
  Hooked hooked(Wild(body), With(10s, 1 * kMiB));
  for (int i = 0; i < 2; ++i) {
    CHECK(hooked.Run(Message("bomb")) == HookOutcome::kMemory);
    CHECK(hooked.verdict().empty());
    CHECK(hooked.Say("fine?") == Actions{"relay fine"});
  }
}

TEST_CASE("the log says where memory ran out") {
  Hooked hooked("local t = {}\n" + Wild("\n  local s = string.rep('x', 1 << 30)"),
                With(10s, 1 * kMiB));
  CHECK(hooked.Run(Message("bomb")) == HookOutcome::kMemory);
  CHECK(hooked.log() ==
        Actions{"error hook: evapi:message-received of conidx 7 (127.0.0.1:4000): hook.lua:3: "
                "out of memory (hook.memory is 1024 KiB)"});
}

TEST_CASE("globals that fill the memory are given up") {
  Hooked hooked("assert(evapi.conidx == nil and evapi.relay('x') == false) kept = {} n = 0 " +
                    Wild("if evapi.msg == 'count' then n = n + 1 evapi.relay(n) return end "
                         "while true do kept[#kept + 1] = ('x'):rep(1000) .. #kept end"),
                With(10s, 1 * kMiB));
  CHECK(hooked.Say("count") == Actions{"relay 1"});
  CHECK(hooked.Run(Message("bomb")) == HookOutcome::kMemory);
  REQUIRE(hooked.log().size() == 2);
  CHECK(hooked.log()[1] ==
        "warn hook: hook.lua: memory had run out and more than half of hook.memory stayed in use; "
        "the script has been loaded afresh and its globals are lost");
  CHECK(hooked.Say("count") == Actions{"relay 1"});
}

TEST_CASE("globals that leave half of the memory are kept") {
  Hooked hooked("n = 0 kept = ('x'):rep(300000) " +
                    OnMessage("n = n + 1 evapi.relay(n) if evapi.msg == 'bomb' then "
                              "local t = {} while true do t[#t + 1] = {} end end"),
                With(10s, 1 * kMiB));
  CHECK(hooked.Run(Message("bomb")) == HookOutcome::kMemory);
  CHECK(hooked.Say("x") == Actions{"relay 2"});
}

TEST_CASE("a script that swallows the error of a full memory is looked after as well") {
  Hooked hooked("kept = {} n = 0 " + OnMessage("n = n + 1 evapi.relay(n) pcall(function() "
                                               "while true do kept[#kept + 1] = {} end end)"),
                With(10s, 1 * kMiB));
  CHECK(hooked.Say("x") == Actions{"relay 1"});
  CHECK(hooked.log().size() == 1);
  CHECK(hooked.Say("x") == Actions{"relay 1"});
}

TEST_CASE("a top level that takes too much memory does not load") {
  CHECK(LoadError("\nlocal t = {} while true do t[#t + 1] = {} end", With(50ms, 1 * kMiB)) ==
        "hook.lua:2: out of memory (hook.memory is 1024 KiB)");
}

TEST_CASE("a top level may leave no memory") {
  const std::string fill =
      "\nkept = {} slots = {} for i = 1, 100 do slots[i] = 0 end "
      "pcall(function() while true do kept = {kept, ('x'):rep(1000)} end end) "
      "pcall(function() while true do kept = {kept} end end) "
      "pcall(function() for i = 1, 100 do slots[i] = string.char(i, 7) end end)";
  std::string error;
  LogOf([&] {
    const auto hook = LoadLuaHook(With(50ms, 256 * kKiB), {kFile, Wild("") + fill}, error);
    if (hook == nullptr) return;
    Verdict verdict;
    const HookOutcome outcome = hook->Run(Message("fine?"), verdict);
    CHECK((outcome == HookOutcome::kDone || outcome == HookOutcome::kMemory));
  });
  CAPTURE(error);
  CHECK((error.empty() || error == "hook.lua: out of memory (hook.memory is 256 KiB)"));
}

TEST_CASE("the smallest memory that can be configured runs scripts") {
  Hooked hooked(OnMessage("evapi.relay(json.encode({n = evapi.conidx}))"), With(50ms, 256 * kKiB));
  CHECK(hooked.Say("x") == Actions{"relay {\"n\":7}"});
}

}  // namespace
}  // namespace evrelay
