#include "hook/lua_kemi.h"

#include <strings.h>

#include <string_view>

#include "hook/lua_bindings.h"
#include "hook/lua_state.h"

namespace evrelay {
namespace {

// 1: done; -1: not done.
template <bool (*kAction)(lua_State*)>
int Act(lua_State* lua) {
  lua_pushinteger(lua, kAction(lua) ? 1 : -1);
  return 1;
}

// Pushes the variable that the argument names as "$evapi(NAME)".
void PushArgument(lua_State* lua) {
  constexpr std::string_view kBefore = "$evapi(";
  std::string_view name = luaL_checkstring(lua, 1);
  const EventVariable* variable = nullptr;
  if (name.starts_with(kBefore) && name.ends_with(')')) {
    name.remove_prefix(kBefore.size());
    name.remove_suffix(1);
    variable = FindVariable(name);
  }
  if (variable == nullptr) {
    luaL_error(lua,
               "%s is not known here; there are $evapi(msg), $evapi(srcaddr), $evapi(srcport), "
               "$evapi(conidx), $evapi(tag), $evapi(reason), $evapi(peer_name)",
               lua_tostring(lua, 1));
  }
  PushVariable(lua, ContextOf(lua), variable);
}

int Get(lua_State* lua) {
  PushArgument(lua);
  return 1;
}

int GetOrEmpty(lua_State* lua) {
  PushArgument(lua);
  if (lua_isnil(lua, -1)) lua_pushliteral(lua, "");
  return 1;
}

int GetOrWord(lua_State* lua) {
  PushArgument(lua);
  if (lua_isnil(lua, -1)) lua_pushliteral(lua, "<null>");
  return 1;
}

int IsNull(lua_State* lua) {
  PushArgument(lua);
  lua_pushboolean(lua, lua_isnil(lua, -1));
  return 1;
}

void LogArgument(lua_State* lua, LogLevel level, int index) {
  std::size_t size;
  const char* text = luaL_checklstring(lua, index, &size);
  LogLine(level, {text, size});
}

template <LogLevel kLevel>
int LogAt(lua_State* lua) {
  LogArgument(lua, kLevel, 1);
  return 0;
}

// log(level, text); a level that it does not know is "err".
int Log(lua_State* lua) {
  const char* name = luaL_checkstring(lua, 1);
  LogLevel level = LogLevel::kError;
  if (strcasecmp(name, "dbg") == 0) level = LogLevel::kDebug;
  if (strcasecmp(name, "info") == 0 || strcasecmp(name, "notice") == 0) level = LogLevel::kInfo;
  if (strcasecmp(name, "warn") == 0) level = LogLevel::kWarn;
  LogArgument(lua, level, 2);
  return 0;
}

int Exit(lua_State* lua) { LuaState::Of(lua).Exit(lua); }

// Adds a table of `functions` to the one on top.
void AddTable(lua_State* lua, HookContext& context, const char* name, const luaL_Reg* functions) {
  lua_newtable(lua);
  lua_pushlightuserdata(lua, &context);
  luaL_setfuncs(lua, functions, 1);
  lua_setfield(lua, -2, name);
}

}  // namespace

void OpenKemi(lua_State* lua, HookContext& context) {
  constexpr luaL_Reg kEvapi[] = {
      {"relay", &Act<&Relay>},           {"relay_multicast", &Act<&Multicast>},
      {"relay_unicast", &Act<&Unicast>}, {"close", &Act<&Close>},
      {"set_tag", &Act<&SetTag>},        {nullptr, nullptr},
  };
  // The third argument is the data: no routes run here, so it tells the producer where to go on.
  constexpr luaL_Reg kTransaction[] = {{"t_continue", &Act<&Resume>}, {nullptr, nullptr}};
  constexpr luaL_Reg kVariables[] = {
      {"get", &Get},        {"gete", &GetOrEmpty}, {"getw", &GetOrWord},
      {"is_null", &IsNull}, {nullptr, nullptr},
  };
  constexpr luaL_Reg kExecution[] = {{"exit", &Exit}, {nullptr, nullptr}};
  constexpr luaL_Reg kLog[] = {
      {"dbg", &LogAt<LogLevel::kDebug>},
      {"info", &LogAt<LogLevel::kInfo>},
      {"notice", &LogAt<LogLevel::kInfo>},
      {"warn", &LogAt<LogLevel::kWarn>},
      {"err", &LogAt<LogLevel::kError>},
      {"crit", &LogAt<LogLevel::kError>},
      {"log", &Log},
      {nullptr, nullptr},
  };
  luaL_newlib(lua, kLog);
  AddTable(lua, context, "evapi", kEvapi);
  AddTable(lua, context, "tmx", kTransaction);
  AddTable(lua, context, "pv", kVariables);
  AddTable(lua, context, "x", kExecution);
  lua_setglobal(lua, "KSR");
}

}  // namespace evrelay
