// The libraries that a script gets: Lua's own, without what reaches out of the state or could run
// for ever where LuaState cannot stop it.

#ifndef EVRELAY_HOOK_LUA_SANDBOX_H_
#define EVRELAY_HOOK_LUA_SANDBOX_H_

#include <lua.hpp>

namespace evrelay {

// Raises a Lua error when memory runs out. Without `patterns` there is no string.find, match,
// gmatch, gsub.
void OpenSandbox(lua_State* lua, bool patterns);

}  // namespace evrelay

#endif  // EVRELAY_HOOK_LUA_SANDBOX_H_
