#include "hook/lua_json.h"

#include <cstddef>
#include <cstdint>

#include "hook/lua_state.h"

extern "C" {
#include <lua-cjson.h>
}

namespace evrelay {
namespace {

// Upvalue of both functions: lua-cjson's own.
constexpr int kOriginal = lua_upvalueindex(1);

constexpr std::uint64_t kTextsInMemory = 32;  // how many of the longest texts it would hold
constexpr lua_Integer kMaxInteger = 100'000'000'000'000;  // lua-cjson would round it
constexpr int kMaxDepth = 1000;                           // as lua-cjson's

// Adds to `size` what lua-cjson may allocate for the value on top, which stays there.
void Measure(lua_State* lua, std::uint64_t& size, int depth) {
  switch (lua_type(lua, -1)) {
    case LUA_TSTRING:
      size += 6 * lua_rawlen(lua, -1) + 2;
      break;
    case LUA_TTABLE:
      size += 64;  // with what an array of this size may have in holes
      if (depth > kMaxDepth) luaL_error(lua, "json.encode: tables within tables, too deep");
      luaL_checkstack(lua, 3, nullptr);
      LuaState::Of(lua).CheckTime(lua);
      lua_pushnil(lua);
      while (lua_next(lua, -2) != 0) {
        Measure(lua, size, depth + 1);
        lua_pop(lua, 1);
        Measure(lua, size, depth + 1);  // the key
      }
      break;
    case LUA_TNUMBER:
      if (lua_isinteger(lua, -1)) {
        const lua_Integer number = lua_tointeger(lua, -1);
        if (number <= -kMaxInteger || number >= kMaxInteger) {
          luaL_error(lua, "json.encode: %I has more than 14 digits; give it as a text", number);
        }
      }
      size += 32;
      break;
    default:
      size += 32;
  }
  if (size > LuaState::Of(lua).memory_limit()) {
    luaL_error(lua, "json.encode: the value is too large for hook.memory");
  }
}

int Encode(lua_State* lua) {
  luaL_checkany(lua, 1);
  lua_settop(lua, 1);
  std::uint64_t size = 0;
  Measure(lua, size, 1);
  lua_pushvalue(lua, kOriginal);
  lua_insert(lua, 1);
  lua_call(lua, 1, 1);
  return 1;
}

// Whether the value on top is a whole number.
bool IsWhole(lua_State* lua, lua_Integer& number) {
  int whole = 0;
  if (lua_type(lua, -1) == LUA_TNUMBER) number = lua_tointegerx(lua, -1, &whole);
  return whole != 0;
}

// lua-cjson makes every number a float, which Lua would write as 1.0. A table is on top.
void MakeIntegers(lua_State* lua) {
  luaL_checkstack(lua, 4, nullptr);
  lua_Integer number = 0;
  lua_pushnil(lua);
  while (lua_next(lua, -2) != 0) {
    if (lua_istable(lua, -1)) {
      MakeIntegers(lua);
    } else if (IsWhole(lua, number)) {
      lua_pushvalue(lua, -2);
      lua_pushinteger(lua, number);
      lua_rawset(lua, -5);
    }
    lua_pop(lua, 1);
  }
}

int Decode(lua_State* lua) {
  std::size_t size;
  luaL_checklstring(lua, 1, &size);
  LuaState& state = LuaState::Of(lua);
  state.CheckTime(lua);
  const std::uint64_t max = state.memory_limit() / kTextsInMemory;
  if (size > max) {
    return luaL_error(lua, "json.decode: %I bytes are too many; hook.memory allows %I",
                      static_cast<LUAI_UACINT>(size), static_cast<LUAI_UACINT>(max));
  }
  lua_settop(lua, 1);
  lua_pushvalue(lua, kOriginal);
  lua_insert(lua, 1);
  state.set_memory_limited(false);
  const int status = lua_pcall(lua, 1, 1, 0);
  state.set_memory_limited(true);
  if (status != LUA_OK) return luaL_error(lua, "json.decode: %s", lua_tostring(lua, -1));
  lua_Integer number = 0;
  if (lua_istable(lua, -1)) MakeIntegers(lua);
  if (IsWhole(lua, number)) lua_pushinteger(lua, number);
  return 1;
}

}  // namespace

void OpenJson(lua_State* lua) {
  lua_newtable(lua);
  lua_pushcfunction(lua, &luaopen_cjson);
  lua_call(lua, 0, 1);
  lua_getfield(lua, -1, "decode_invalid_numbers");  // NaN, 0x10 and the like
  lua_pushboolean(lua, 0);
  lua_call(lua, 1, 0);
  lua_getfield(lua, -1, "encode");
  lua_pushcclosure(lua, &Encode, 1);
  lua_setfield(lua, -3, "encode");
  lua_getfield(lua, -1, "decode");
  lua_pushcclosure(lua, &Decode, 1);
  lua_setfield(lua, -3, "decode");
  lua_getfield(lua, -1, "null");
  lua_setfield(lua, -3, "null");
  lua_pop(lua, 1);
  lua_setglobal(lua, "json");
}

}  // namespace evrelay
