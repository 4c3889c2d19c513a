#include "hook/lua_sandbox.h"

#include <cstddef>
#include <cstring>

#include "hook/lua_state.h"

namespace evrelay {
namespace {

// Most of what follows are stand-ins that check their arguments and then go on as Lua's own
// function, which is their upvalue and needs none itself.
constexpr int kOriginal = lua_upvalueindex(1);
int GoOn(lua_State* lua) { return lua_tocfunction(lua, kOriginal)(lua); }

constexpr std::size_t kMaxLoad = 1024 * 1024;

// A full collection takes long and cannot be stopped.
int CollectGarbage(lua_State* lua) {
  luaL_argcheck(lua, std::strcmp(luaL_optstring(lua, 1, "collect"), "count") == 0, 1,
                "only \"count\" is available here");
  return GoOn(lua);
}

// No bytecode, which can break out of anything, and no reader functions, which need not end.
int Load(lua_State* lua) {
  std::size_t size;
  luaL_checklstring(lua, 1, &size);
  luaL_argcheck(lua, size <= kMaxLoad, 1, "longer than 1 MiB");
  if (lua_gettop(lua) < 3) lua_settop(lua, 3);  // a fourth, even if nil, is the environment
  lua_pushliteral(lua, "t");
  lua_replace(lua, 3);
  return GoOn(lua);
}

// Finalizers run with hooks off.
int SetMetatable(lua_State* lua) {
  if (lua_istable(lua, 2)) {
    lua_pushliteral(lua, "__gc");
    luaL_argcheck(lua, lua_rawget(lua, 2) == LUA_TNIL, 2, "__gc is not available here");
    lua_pop(lua, 1);
  }
  return GoOn(lua);
}

int OnError(lua_State* lua) {
  if (LuaState::Of(lua).stopped()) return 1;
  lua_pushvalue(lua, kOriginal);
  lua_insert(lua, 1);
  lua_call(lua, 1, 1);
  return 1;
}

// The error of a stopped call is raised in a hook, and its handler runs with hooks off.
int XPCall(lua_State* lua) {
  luaL_checktype(lua, 2, LUA_TFUNCTION);
  lua_pushvalue(lua, 2);
  lua_pushcclosure(lua, &OnError, 1);
  lua_replace(lua, 2);
  return GoOn(lua);
}

// A coroutine that was stopped takes along the one that resumed it.
int Resume(lua_State* lua) {
  const int results = GoOn(lua);
  LuaState& state = LuaState::Of(lua);
  if (state.stopped()) state.Unwind(lua);
  return results;
}

// What coroutine.wrap returns: upvalues are the original of resume and the coroutine. Lua's own
// closes the variables of a coroutine that failed, with hooks off if it was stopped.
int ResumeWrapped(lua_State* lua) {
  lua_pushvalue(lua, lua_upvalueindex(2));
  lua_insert(lua, 1);
  const int results = Resume(lua);
  if (lua_toboolean(lua, -results)) return results - 1;
  if (lua_type(lua, -1) == LUA_TSTRING) {
    luaL_where(lua, 1);
    lua_insert(lua, -2);
    lua_concat(lua, 2);
  }
  return lua_error(lua);
}

// Upvalue: the original of resume.
int Wrap(lua_State* lua) {
  luaL_checktype(lua, 1, LUA_TFUNCTION);
  lua_pushvalue(lua, kOriginal);
  lua_State* coroutine = lua_newthread(lua);
  lua_pushvalue(lua, 1);
  lua_xmove(lua, coroutine, 1);
  lua_pushcclosure(lua, &ResumeWrapped, 2);
  return 1;
}

// Lua's own copies nothing very many times.
int Repeat(lua_State* lua) {
  std::size_t text;
  std::size_t separator;
  luaL_checklstring(lua, 1, &text);
  luaL_checkinteger(lua, 2);
  luaL_optlstring(lua, 3, "", &separator);
  if (text + separator == 0) {
    lua_pushliteral(lua, "");
    return 1;
  }
  return GoOn(lua);
}

// The number of elements of the table that is the first argument. It could say anything through
// __len; and without it, too, a few elements can make a length beyond all bounds.
lua_Integer Length(lua_State* lua) {
  luaL_checktype(lua, 1, LUA_TTABLE);
  if (luaL_getmetafield(lua, 1, "__len") != LUA_TNIL) {
    luaL_argerror(lua, 1, "a table with __len is not taken here");
  }
  return static_cast<lua_Integer>(lua_rawlen(lua, 1));
}

// For a function of `table` that is to go through these elements: their number, which must be no
// more than the memory could hold.
lua_Unsigned CheckRange(lua_State* lua, lua_Integer first, lua_Integer last) {
  constexpr lua_Unsigned kBytes = 16;  // an element
  LuaState& state = LuaState::Of(lua);
  state.CheckTime(lua);
  if (first > last) return 0;
  const lua_Unsigned steps = static_cast<lua_Unsigned>(last) - static_cast<lua_Unsigned>(first);
  if (steps >= state.memory_limit() / kBytes) {
    luaL_error(lua, "more elements than hook.memory could hold");
  }
  return steps + 1;
}

// The metamethods of a guard: upvalue is the table that it stands for.
constexpr int kGuarded = lua_upvalueindex(1);
constexpr lua_Unsigned kFewElements = 100;

int GetGuarded(lua_State* lua) {
  LuaState::Of(lua).CheckTime(lua);
  lua_settop(lua, 2);
  lua_gettable(lua, kGuarded);
  return 1;
}

int SetGuarded(lua_State* lua) {
  LuaState::Of(lua).CheckTime(lua);
  lua_settop(lua, 3);
  lua_settable(lua, kGuarded);
  return 0;
}

int LengthOfGuarded(lua_State* lua) {
  lua_len(lua, kGuarded);
  return 1;
}

bool HasMetafield(lua_State* lua, int index, const char* name) {
  if (luaL_getmetafield(lua, index, name) == LUA_TNIL) return false;
  lua_pop(lua, 1);
  return true;
}

// An element that metamethods get or set may take any time, as it may go through thousands of
// tables. For a long loop that cannot be stopped, such an argument gives way to a guard, which
// looks at the clock for each element.
void Guard(lua_State* lua, int index, lua_Unsigned elements) {
  if (elements <= kFewElements) return;
  if (!HasMetafield(lua, index, "__index") && !HasMetafield(lua, index, "__newindex")) return;
  constexpr luaL_Reg kMetamethods[] = {{"__index", &GetGuarded},
                                       {"__newindex", &SetGuarded},
                                       {"__len", &LengthOfGuarded},
                                       {nullptr, nullptr}};
  lua_newtable(lua);
  luaL_newlibtable(lua, kMetamethods);
  lua_pushvalue(lua, index);
  luaL_setfuncs(lua, kMetamethods, 1);
  lua_setmetatable(lua, -2);
  lua_replace(lua, index);
}

// Only with a position do these two go through the elements.
int Insert(lua_State* lua) {
  const lua_Unsigned elements = CheckRange(lua, 1, Length(lua));
  if (lua_gettop(lua) > 2) Guard(lua, 1, elements);
  return GoOn(lua);
}

int Remove(lua_State* lua) {
  const lua_Unsigned elements = CheckRange(lua, 1, Length(lua));
  if (lua_gettop(lua) > 1) Guard(lua, 1, elements);
  return GoOn(lua);
}

int IsLess(lua_State* lua) {
  LuaState::Of(lua).CheckTime(lua);
  lua_pushboolean(lua, lua_compare(lua, 1, 2, LUA_OPLT));
  return 1;
}

// The same by a C function, which is the upvalue: math.ult goes through long texts.
int IsLessBy(lua_State* lua) {
  LuaState::Of(lua).CheckTime(lua);
  lua_settop(lua, 2);
  lua_pushvalue(lua, lua_upvalueindex(1));
  lua_insert(lua, 1);
  lua_call(lua, 2, 1);
  return 1;
}

// A sort cannot be stopped, a function that it calls can.
int Sort(lua_State* lua) {
  const lua_Unsigned elements = CheckRange(lua, 1, Length(lua));
  lua_settop(lua, 2);
  if (lua_isnil(lua, 2)) {
    lua_pushcfunction(lua, &IsLess);
    lua_replace(lua, 2);
  } else if (lua_iscfunction(lua, 2)) {
    lua_pushcclosure(lua, &IsLessBy, 1);
  }
  Guard(lua, 1, elements);
  return GoOn(lua);
}

int Concat(lua_State* lua) {
  const lua_Integer length = Length(lua);
  Guard(lua, 1, CheckRange(lua, luaL_optinteger(lua, 3, 1), luaL_optinteger(lua, 4, length)));
  return GoOn(lua);
}

// Returns the table that it has moved to, and no guard.
int Move(lua_State* lua) {
  const lua_Integer first = luaL_checkinteger(lua, 2);
  const lua_Unsigned elements = CheckRange(lua, first, luaL_checkinteger(lua, 3));
  lua_settop(lua, 5);
  const bool within = lua_isnil(lua, 5) || lua_rawequal(lua, 1, 5);
  lua_pushvalue(lua, within ? 1 : 5);
  Guard(lua, 1, elements);
  if (within) {
    lua_pushnil(lua);
    lua_replace(lua, 5);
  } else {
    Guard(lua, 5, elements);
  }
  GoOn(lua);
  lua_pushvalue(lua, 6);
  return 1;
}

// Takes any range, as it is bounded by the stack.
int Unpack(lua_State* lua) {
  LuaState::Of(lua).CheckTime(lua);
  Guard(lua, 1, kFewElements + 1);
  return GoOn(lua);
}

// For functions that cannot be stopped while they go through a long text. (gsub allocates.)
int LookAtClock(lua_State* lua) {
  LuaState::Of(lua).CheckTime(lua);
  return GoOn(lua);
}

struct StandIn {
  const char* name;
  lua_CFunction function;  // null: there is none, and the original is taken away
};

// The table of the originals is on top.
template <std::size_t kCount>
void Replace(lua_State* lua, const StandIn (&stand_ins)[kCount]) {
  for (const StandIn& stand_in : stand_ins) {
    if (stand_in.function == nullptr) {
      lua_pushnil(lua);
    } else {
      lua_getfield(lua, -1, stand_in.name);
      lua_pushcclosure(lua, stand_in.function, 1);
    }
    lua_setfield(lua, -2, stand_in.name);
  }
}

void OpenBase(lua_State* lua) {
  luaL_requiref(lua, LUA_GNAME, &luaopen_base, 1);
  Replace(lua, {
                   {"collectgarbage", &CollectGarbage},
                   {"dofile", nullptr},
                   {"load", &Load},
                   {"loadfile", nullptr},
                   {"setmetatable", &SetMetatable},
                   {"warn", nullptr},
                   {"xpcall", &XPCall},
               });
  lua_pop(lua, 1);
}

void OpenString(lua_State* lua, bool patterns) {
  luaL_requiref(lua, LUA_STRLIBNAME, &luaopen_string, 1);
  Replace(lua, {{"dump", nullptr}, {"rep", &Repeat}});
  if (patterns) {
    Replace(lua, {{"find", &LookAtClock}, {"match", &LookAtClock}});
  } else {
    Replace(lua, {{"find", nullptr}, {"gmatch", nullptr}, {"gsub", nullptr}, {"match", nullptr}});
  }
  lua_pop(lua, 1);
}

void OpenTable(lua_State* lua) {
  luaL_requiref(lua, LUA_TABLIBNAME, &luaopen_table, 1);
  Replace(lua, {
                   {"concat", &Concat},
                   {"insert", &Insert},
                   {"move", &Move},
                   {"remove", &Remove},
                   {"sort", &Sort},
                   {"unpack", &Unpack},
               });
  lua_pop(lua, 1);
}

// There is no coroutine.close: of a coroutine that was stopped it would run code with hooks off.
void OpenCoroutine(lua_State* lua) {
  luaL_requiref(lua, LUA_COLIBNAME, &luaopen_coroutine, 1);
  lua_getfield(lua, -1, "resume");
  lua_pushcclosure(lua, &Wrap, 1);
  lua_setfield(lua, -2, "wrap");
  Replace(lua, {{"close", nullptr}, {"resume", &Resume}});
  lua_pop(lua, 1);
}

void OpenOs(lua_State* lua) {
  luaL_requiref(lua, LUA_OSLIBNAME, &luaopen_os, 0);
  lua_newtable(lua);
  for (const char* name : {"clock", "date", "time"}) {
    lua_getfield(lua, -2, name);
    lua_setfield(lua, -2, name);
  }
  lua_setglobal(lua, LUA_OSLIBNAME);
  lua_pop(lua, 1);
}

}  // namespace

void OpenSandbox(lua_State* lua, bool patterns) {
  OpenBase(lua);
  OpenString(lua, patterns);
  OpenTable(lua);
  OpenCoroutine(lua);
  OpenOs(lua);
  luaL_requiref(lua, LUA_UTF8LIBNAME, &luaopen_utf8, 1);
  Replace(lua, {{"len", &LookAtClock}});
  luaL_requiref(lua, LUA_MATHLIBNAME, &luaopen_math, 1);
  lua_pop(lua, 2);
  // Where luaL_requiref keeps the libraries, the whole os among them.
  lua_pushnil(lua);
  lua_setfield(lua, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
}

}  // namespace evrelay
