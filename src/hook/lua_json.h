// The table `json` of a script: encode, decode and null, by lua-cjson.
//
// lua-cjson allocates outside of LuaState: as much as a text to decode for as long as that takes,
// and for an encoded one until the state ends. It ends the process when it gets no memory, and
// loses what it has allocated when Lua gets none while it decodes. So both are given bounds that
// hook.memory sets before it is called, and Lua's memory is unlimited while it decodes: a text
// makes at most some 40 times its size.

#ifndef EVRELAY_HOOK_LUA_JSON_H_
#define EVRELAY_HOOK_LUA_JSON_H_

#include <lua.hpp>

namespace evrelay {

// Sets the global. Raises a Lua error when memory runs out.
void OpenJson(lua_State* lua);

}  // namespace evrelay

#endif  // EVRELAY_HOOK_LUA_JSON_H_
