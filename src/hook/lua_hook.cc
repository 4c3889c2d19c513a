#include "hook/lua_hook.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <lua.hpp>
#include <map>
#include <new>
#include <string_view>
#include <system_error>
#include <utility>
#include <variant>

#include "hook/hook_context.h"
#include "hook/log_text.h"
#include "hook/lua_bindings.h"
#include "hook/lua_json.h"
#include "hook/lua_kemi.h"
#include "hook/lua_sandbox.h"
#include "hook/lua_state.h"
#include "logging/log.h"
#include "logging/log_limit.h"
#include "util/unique_fd.h"

namespace evrelay {
namespace {

constexpr std::size_t kMaxScript = 1024 * 1024;
constexpr std::chrono::seconds kLoadBudget{1};
constexpr std::size_t kMaxPlaces = 64;
constexpr std::size_t kEvents = kHookEventNames.size();
// By HookEventKind.
constexpr const char* kRoutes[kEvents] = {"evapi:connection-new", "evapi:message-received",
                                          "evapi:connection-closed"};

std::string Peer(const HookEvent& event) {
  std::string address = Escaped(event.srcaddr);
  if (event.srcaddr == "unix") return address;
  const bool v6 = event.srcaddr.find(':') != std::string_view::npos;
  return (v6 ? "[" + address + "]" : address) + ":" + std::to_string(event.srcport);
}

// How many letters must be changed, added or taken away to make `a` of `b`.
std::size_t Distance(std::string_view a, std::string_view b) {
  std::string_view::size_type row[64];
  const std::size_t width = std::min(b.size(), std::size(row) - 1);
  for (std::size_t i = 0; i <= width; ++i) row[i] = i;
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < width; ++j) {
      const std::size_t changed = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({changed, diagonal + 1, row[j] + 1});
    }
  }
  return row[width];
}

class LuaHook final : public Hook {
 public:
  LuaHook(const Config& config, Script script)
      : config_(config.hook),
        event_callback_(config.event_callback),
        script_(std::move(script)),
        context_(config.max_event) {}

  // Takes a new state for the old one, unless it returns false.
  bool Load(std::string& error);

  HookOutcome Run(const HookEvent& event, Verdict& verdict) noexcept override;
  bool Hears(HookEventKind kind) const noexcept override {
    return !lua_isnil(state_->lua(), SlotOf(kind));
  }

 private:
  // Where the function for an event stands on the stack, with its argument behind it; nil: there is
  // none.
  static int SlotOf(HookEventKind kind) { return kFirstSlot + 2 * static_cast<int>(kind); }
  static constexpr int kFirstSlot = 2;

  // Called by Lua; the argument is the hook.
  static LuaHook& TakeArgument(lua_State* lua) {
    LuaHook& self = *static_cast<LuaHook*>(lua_touserdata(lua, 1));
    lua_settop(lua, 0);
    return self;
  }
  static int Open(lua_State* lua);
  static int RunTopLevel(lua_State* lua);
  static int FindFunctions(lua_State* lua);
  void CheckRoute(lua_State* lua);

  static void GiveBackClaims(const HookEvent& event, const Verdict& verdict);
  void LogFailure(const HookEvent& event) noexcept;
  void FreeMemory() noexcept;

  const HookConfig config_;
  const std::string event_callback_;
  const Script script_;
  HookContext context_;
  std::unique_ptr<LuaState> state_;
  std::map<std::string, LogLimit> failures_;  // by place
  LogLimit reloads_{1};
};

bool LuaHook::Load(std::string& error) {
  auto state = std::make_unique<LuaState>(config_.memory);
  lua_State* lua = state->lua();
  struct Step {
    lua_CFunction function;
    int results;
  };
  for (const Step& step : {Step{&Open, 0}, {&RunTopLevel, 0}, {&FindFunctions, 2 * kEvents}}) {
    // These two allocate nothing: no error may be raised here, and memory may be full by now.
    lua_pushcfunction(lua, step.function);
    lua_pushlightuserdata(lua, this);
    if (state->Call(1, step.results, kLoadBudget) == HookOutcome::kDone) continue;
    error = state->Failure();
    // Lua names no file for what it cannot read as a text, and shortens a long path.
    if (!error.starts_with(script_.path)) error.insert(0, script_.path + ": ");
    return false;
  }
  state_ = std::move(state);
  return true;
}

int LuaHook::Open(lua_State* lua) {
  LuaHook& self = TakeArgument(lua);
  OpenSandbox(lua, self.config_.patterns);
  OpenBindings(lua, self.context_);
  OpenKemi(lua, self.context_);
  OpenJson(lua);
  return 0;
}

int LuaHook::RunTopLevel(lua_State* lua) {
  const Script& script = TakeArgument(lua).script_;
  lua_pushfstring(lua, "@%s", script.path.c_str());
  const int status =
      luaL_loadbufferx(lua, script.text.data(), script.text.size(), lua_tostring(lua, -1), "t");
  if (status != LUA_OK) return lua_error(lua);
  lua_call(lua, 0, 0);
  return 0;
}

// Returns a function and its argument for each event.
int LuaHook::FindFunctions(lua_State* lua) {
  LuaHook& self = TakeArgument(lua);
  const char* file = self.script_.path.c_str();
  if (lua_getglobal(lua, "event_route") != LUA_TTABLE) {
    return luaL_error(lua, "%s: event_route must stay a table; it is a %s", file,
                      luaL_typename(lua, -1));
  }
  lua_pushnil(lua);
  while (lua_next(lua, 1) != 0) {
    self.CheckRoute(lua);
    lua_pop(lua, 1);
  }
  const char* callback = self.event_callback_.c_str();
  if (*callback == '\0') {
    lua_pushnil(lua);
  } else if (lua_getglobal(lua, callback) != LUA_TFUNCTION) {
    return luaL_error(lua, "%s: there is no global function %s, which event_callback names", file,
                      callback);
  }
  for (const char* route : kRoutes) {
    if (lua_getfield(lua, 1, route) == LUA_TFUNCTION) {
      lua_getglobal(lua, "evapi");
    } else {
      lua_pop(lua, 1);
      lua_pushvalue(lua, 2);
      lua_pushstring(lua, route);
    }
  }
  return 2 * kEvents;
}

// The key and the value of an element of event_route are on the stack.
void LuaHook::CheckRoute(lua_State* lua) {
  const char* file = script_.path.c_str();
  const bool function = lua_type(lua, -1) == LUA_TFUNCTION;
  lua_pushvalue(lua, -2);
  const char* key = luaL_tolstring(lua, -1, nullptr);
  if (!function) {
    luaL_error(lua, "%s: event_route[\"%s\"] must be a function; it is a %s", file, key,
               luaL_typename(lua, -3));
  }
  const char* nearest = kRoutes[0];
  for (const char* route : kRoutes) {
    if (std::strcmp(key, route) == 0) {
      lua_pop(lua, 2);
      return;
    }
    if (Distance(key, route) < Distance(key, nearest)) nearest = route;
  }
  lua_Debug info;
  lua_pushvalue(lua, -3);
  lua_getinfo(lua, ">S", &info);
  const char* line = info.linedefined > 0 ? lua_pushfstring(lua, ":%d", info.linedefined) : "";
  luaL_error(lua,
             "%s%s: event_route[\"%s\"]: there is no such event; did you mean \"%s\"? There are "
             "%s, %s, %s",
             file, line, key, nearest, kRoutes[0], kRoutes[1], kRoutes[2]);
}

HookOutcome LuaHook::Run(const HookEvent& event, Verdict& verdict) noexcept {
  lua_State* lua = state_->lua();
  const int slot = SlotOf(event.kind);
  if (lua_isnil(lua, slot)) return HookOutcome::kNoRoute;

  context_.Begin(event, verdict);
  lua_pushvalue(lua, slot);
  lua_pushvalue(lua, slot + 1);
  const HookOutcome outcome = state_->Call(1, 0, config_.timeout);
  context_.End();
  if (outcome != HookOutcome::kDone) {
    GiveBackClaims(event, verdict);
    verdict.Clear();
    LogFailure(event);
  }
  if (state_->TakeRefused()) FreeMemory();
  return outcome;
}

void LuaHook::GiveBackClaims(const HookEvent& event, const Verdict& verdict) {
  for (const Action& action : verdict.actions()) {
    if (const auto* resume = std::get_if<action::Resume>(&action)) {
      event.claims->GiveBack(resume->request);
    }
  }
}

// One line a second for each place of the script, of which so many are told apart.
void LuaHook::LogFailure(const HookEvent& event) noexcept try {
  std::string place = state_->place();
  if (failures_.size() >= kMaxPlaces && !failures_.contains(place)) place.clear();
  LogLimit& limit = failures_.try_emplace(std::move(place), 1).first->second;
  std::string what = state_->Failure();
  if (*state_->callers() != '\0') what += std::string("; called from ") + state_->callers();
  LogErrorLimited(limit, "hook", "{} of conidx {} ({}): {}",
                  kRoutes[static_cast<std::size_t>(event.kind)], event.connection.conidx,
                  Peer(event), LogText(what));
} catch (const std::bad_alloc&) {
  // There is no memory for the words; the failure is counted.
}

// After an allocation has been refused, whether the script has noticed or not.
void LuaHook::FreeMemory() noexcept try {
  lua_gc(state_->lua(), LUA_GCCOLLECT);
  if (state_->memory() <= state_->memory_limit() / 2) return;
  std::string error;
  if (Load(error)) {
    LogWarnLimited(reloads_, "hook",
                   "{}: memory had run out and more than half of hook.memory stayed in use; the "
                   "script has been loaded afresh and its globals are lost",
                   script_.path);
  } else {
    LogErrorLimited(reloads_, "hook", "{}", LogText(error));
  }
} catch (const std::bad_alloc&) {
  // The next refusal tries again.
}

}  // namespace

bool ReadScript(const Config& config, Script& script, std::string& error) {
  const std::string& path = config.script;
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  struct stat status {};
  if (!fd || ::fstat(fd.get(), &status) != 0) {
    error = path + ": cannot read the script: " + std::generic_category().message(errno);
    return false;
  }
  if (!S_ISREG(status.st_mode)) {
    error = path + ": not a regular file; script must name a Lua file";
    return false;
  }
  std::string text(kMaxScript + 1, '\0');
  std::size_t size = 0;
  while (size < text.size()) {
    const ssize_t got = ::read(fd.get(), text.data() + size, text.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      error = path + ": cannot read the script: " + std::generic_category().message(errno);
      return false;
    }
    if (got == 0) break;
    size += static_cast<std::size_t>(got);
  }
  if (size > kMaxScript) {
    error = path + ": larger than 1 MiB; a script may have at most that";
    return false;
  }
  text.resize(size);
  script = {path, std::move(text)};
  return true;
}

std::unique_ptr<Hook> LoadLuaHook(const Config& config, const Script& script, std::string& error) {
  auto hook = std::make_unique<LuaHook>(config, script);
  if (!hook->Load(error)) return nullptr;
  return hook;
}

}  // namespace evrelay
