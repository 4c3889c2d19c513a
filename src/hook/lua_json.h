// The table `json` of a script: encode, decode and null, by lua-cjson.
//
// lua-cjson allocates outside of LuaState: a text to decode for as long as that takes, an encoded
// one until the state ends. It ends the process when it gets no memory, and loses the text to
// decode when Lua gets none. So both are given bounds, in proportion to hook.memory, before it is
// called, and Lua's memory is unlimited while it decodes, which makes at most kDecodedSize bytes of
// each byte.

#ifndef EVRELAY_HOOK_LUA_JSON_H_
#define EVRELAY_HOOK_LUA_JSON_H_

#include <lua.hpp>

namespace evrelay {

// Sets the global. Raises a Lua error when memory runs out.
void OpenJson(lua_State* lua);

}  // namespace evrelay

#endif  // EVRELAY_HOOK_LUA_JSON_H_
