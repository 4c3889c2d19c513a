#include "hook/lua_bindings.h"

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <string>
#include <system_error>

#include "hook/log_text.h"
#include "logging/log.h"
#include "metrics/reasons.h"

namespace evrelay {
namespace {

std::string_view StringArgument(lua_State* lua, int index) {
  std::size_t size;
  const char* text = luaL_checklstring(lua, index, &size);
  return {text, size};
}

void PushText(lua_State* lua, std::string_view text) {
  lua_pushlstring(lua, text.data(), text.size());
}

void PushTextOrNil(lua_State* lua, std::string_view text) {
  if (text.empty()) {
    lua_pushnil(lua);
  } else {
    PushText(lua, text);
  }
}

// A whole number, or its decimal digits.
std::optional<std::uint32_t> RequestNumber(lua_State* lua, int index) {
  if (lua_type(lua, index) == LUA_TNUMBER) {
    int whole = 0;
    const lua_Integer number = lua_tointegerx(lua, index, &whole);
    if (whole == 0 || number < 0 || number > UINT32_MAX) return std::nullopt;
    return static_cast<std::uint32_t>(number);
  }
  if (lua_type(lua, index) != LUA_TSTRING) return std::nullopt;
  const std::string_view text = StringArgument(lua, index);
  std::uint32_t number = 0;
  const char* end = text.data() + text.size();
  const auto read = std::from_chars(text.data(), end, number);
  if (read.ec != std::errc() || read.ptr != end) return std::nullopt;
  return number;
}

template <bool (*kAction)(lua_State*)>
int Act(lua_State* lua) {
  lua_pushboolean(lua, kAction(lua));
  return 1;
}

// Upvalues: the context, the table of evapi's functions.
int GetField(lua_State* lua) {
  lua_pushvalue(lua, 2);
  if (lua_rawget(lua, lua_upvalueindex(2)) != LUA_TNIL) return 1;
  std::size_t size = 0;
  const char* name = lua_tolstring(lua, 2, &size);
  PushVariable(lua, ContextOf(lua), FindVariable({name, size}));
  return 1;
}

int SetField(lua_State* lua) {
  return luaL_error(lua, "evapi.%s is read-only", luaL_tolstring(lua, 2, nullptr));
}

struct LevelName {
  std::string_view name;
  LogLevel level;
};
constexpr LevelName kLevelNames[] = {
    {"L_ALERT", LogLevel::kError}, {"L_BUG", LogLevel::kError}, {"L_CRIT", LogLevel::kError},
    {"L_ERR", LogLevel::kError},   {"L_WARN", LogLevel::kWarn}, {"L_NOTICE", LogLevel::kInfo},
    {"L_INFO", LogLevel::kInfo},   {"L_DBG", LogLevel::kDebug}, {"error", LogLevel::kError},
    {"warn", LogLevel::kWarn},     {"info", LogLevel::kInfo},   {"debug", LogLevel::kDebug},
};

// xlog([level,] text)
int Xlog(lua_State* lua) {
  if (lua_gettop(lua) < 2) {
    LogLine(LogLevel::kInfo, StringArgument(lua, 1));
    return 0;
  }
  const std::string_view name = StringArgument(lua, 1);
  for (const LevelName& level : kLevelNames) {
    if (level.name != name) continue;
    LogLine(level.level, StringArgument(lua, 2));
    return 0;
  }
  return luaL_error(lua,
                    "xlog: %s is no level; there are L_ALERT, L_BUG, L_CRIT, L_ERR, L_WARN, "
                    "L_NOTICE, L_INFO, L_DBG, and error, warn, info, debug",
                    name.data());
}

int Print(lua_State* lua) {
  const int arguments = lua_gettop(lua);
  luaL_Buffer line;
  luaL_buffinit(lua, &line);
  for (int i = 1; i <= arguments; ++i) {
    if (i > 1) luaL_addchar(&line, '\t');
    luaL_tolstring(lua, i, nullptr);
    luaL_addvalue(&line);
  }
  luaL_pushresult(&line);
  LogLine(LogLevel::kInfo, StringArgument(lua, -1));
  return 0;
}

}  // namespace

const std::array<EventVariable, 7> kEventVariables{{
    {"msg",
     [](lua_State* lua, const HookContext& context) {
       if (context.event()->kind == HookEventKind::kMessageReceived) {
         PushText(lua, context.event()->msg);
       } else {
         lua_pushnil(lua);
       }
     }},
    {"srcaddr",
     [](lua_State* lua, const HookContext& context) { PushText(lua, context.event()->srcaddr); }},
    {"srcport", [](lua_State* lua,
                   const HookContext& context) { lua_pushinteger(lua, context.event()->srcport); }},
    {"conidx",
     [](lua_State* lua, const HookContext& context) {
       lua_pushinteger(lua, context.event()->connection.conidx);
     }},
    {"tag", [](lua_State* lua, const HookContext& context) { PushTextOrNil(lua, context.tag()); }},
    {"peer_name",
     [](lua_State* lua, const HookContext& context) {
       PushTextOrNil(lua, context.event()->peer_name);
     }},
    {"reason",
     [](lua_State* lua, const HookContext& context) {
       if (context.event()->kind == HookEventKind::kConnectionClosed) {
         PushText(lua, Name(context.event()->reason));
       } else {
         lua_pushnil(lua);
       }
     }},
}};

const EventVariable* FindVariable(std::string_view name) {
  for (const EventVariable& variable : kEventVariables) {
    if (variable.name == name) return &variable;
  }
  return nullptr;
}

void PushVariable(lua_State* lua, const HookContext& context, const EventVariable* variable) {
  if (variable == nullptr || context.event() == nullptr) {
    lua_pushnil(lua);
  } else {
    variable->push(lua, context);
  }
}

bool Relay(lua_State* lua) { return ContextOf(lua).Relay(StringArgument(lua, 1)); }
bool Multicast(lua_State* lua) {
  const std::string_view evdata = StringArgument(lua, 1);
  return ContextOf(lua).Multicast(evdata, StringArgument(lua, 2));
}
bool Unicast(lua_State* lua) {
  const std::string_view evdata = StringArgument(lua, 1);
  return ContextOf(lua).Unicast(evdata, StringArgument(lua, 2));
}
// What is no number of a request names none: such arguments come from messages.
bool Resume(lua_State* lua) {
  const std::string_view evdata = StringArgument(lua, 3);
  const auto index = RequestNumber(lua, 1);
  const auto label = RequestNumber(lua, 2);
  return index && label && ContextOf(lua).Resume({*index, *label}, evdata);
}
bool Reply(lua_State* lua) { return ContextOf(lua).Reply(StringArgument(lua, 1)); }
bool Close(lua_State* lua) { return ContextOf(lua).Close(); }
bool SetTag(lua_State* lua) { return ContextOf(lua).SetTag(StringArgument(lua, 1)); }

void LogLine(LogLevel level, std::string_view text) noexcept {
  if (!LogEnabled(level)) return;
  try {
    const std::string line = LogText(text);
    switch (level) {
      case LogLevel::kDebug:
        return LogDebug("hook", "{}", line);
      case LogLevel::kInfo:
        return LogInfo("hook", "{}", line);
      case LogLevel::kWarn:
        return LogWarn("hook", "{}", line);
      case LogLevel::kError:
        return LogError("hook", "{}", line);
    }
  } catch (const std::bad_alloc&) {
    // The line is lost.
  }
}

// `evapi` itself is empty, so that every reading and writing comes to its metatable.
void OpenBindings(lua_State* lua, HookContext& context) {
  constexpr luaL_Reg kFunctions[] = {
      {"relay", &Act<&Relay>},     {"multicast", &Act<&Multicast>},
      {"unicast", &Act<&Unicast>}, {"reply", &Act<&Reply>},
      {"close", &Act<&Close>},     {"set_tag", &Act<&SetTag>},
      {"resume", &Act<&Resume>},   {nullptr, nullptr},
  };
  lua_newtable(lua);
  lua_newtable(lua);
  lua_pushlightuserdata(lua, &context);
  luaL_newlibtable(lua, kFunctions);
  lua_pushvalue(lua, -2);
  luaL_setfuncs(lua, kFunctions, 1);
  lua_pushcclosure(lua, &GetField, 2);
  lua_setfield(lua, -2, "__index");
  lua_pushcfunction(lua, &SetField);
  lua_setfield(lua, -2, "__newindex");
  lua_pushboolean(lua, 0);
  lua_setfield(lua, -2, "__metatable");
  lua_setmetatable(lua, -2);
  lua_setglobal(lua, "evapi");

  lua_newtable(lua);
  lua_setglobal(lua, "event_route");
  lua_register(lua, "print", &Print);
  lua_register(lua, "xlog", &Xlog);
}

}  // namespace evrelay
