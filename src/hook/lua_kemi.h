// The names that Kamailio's KEMI scripts use for events, actions and the log: KSR.

#ifndef EVRELAY_HOOK_LUA_KEMI_H_
#define EVRELAY_HOOK_LUA_KEMI_H_

#include <lua.hpp>

#include "hook/hook_context.h"

namespace evrelay {

// Sets the global. Raises a Lua error when memory runs out. `context` must outlive the state.
void OpenKemi(lua_State* lua, HookContext& context);

}  // namespace evrelay

#endif  // EVRELAY_HOOK_LUA_KEMI_H_
