// What a script finds besides Lua's libraries: the table `evapi`, the empty table `event_route`,
// xlog, print. Also what lua_kemi shows under other names.

#ifndef EVRELAY_HOOK_LUA_BINDINGS_H_
#define EVRELAY_HOOK_LUA_BINDINGS_H_

#include <array>
#include <lua.hpp>
#include <string_view>

#include "config/config.h"
#include "hook/hook_context.h"

namespace evrelay {

// Sets the globals. Raises a Lua error when memory runs out. `context` must outlive the state.
void OpenBindings(lua_State* lua, HookContext& context);

// The context of a C function whose first upvalue is a pointer to it.
inline HookContext& ContextOf(lua_State* lua) {
  return *static_cast<HookContext*>(lua_touserdata(lua, lua_upvalueindex(1)));
}

// Actions, made from the arguments of such a function: what they return says whether they were
// added. Raise Lua errors for arguments that are no strings.
bool Relay(lua_State* lua);
bool Multicast(lua_State* lua);
bool Unicast(lua_State* lua);
bool Resume(lua_State* lua);
bool Reply(lua_State* lua);
bool Close(lua_State* lua);
bool SetTag(lua_State* lua);

// What a script may ask of the event it runs for.
struct EventVariable {
  std::string_view name;
  void (*push)(lua_State* lua, const HookContext& context);  // only in an event
};
extern const std::array<EventVariable, 7> kEventVariables;

// Pushes a variable of the running event, or nil: it has none of this name. Null: pushes nil.
void PushVariable(lua_State* lua, const HookContext& context, const EventVariable* variable);
const EventVariable* FindVariable(std::string_view name);

// One line of the script's in the log.
void LogLine(LogLevel level, std::string_view text) noexcept;

}  // namespace evrelay

#endif  // EVRELAY_HOOK_LUA_BINDINGS_H_
