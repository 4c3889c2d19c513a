// LuaHook: a script in a Lua state of its own.
//
// Thread safety: none. May be built on one thread and then be handed to another.

#ifndef EVRELAY_HOOK_LUA_HOOK_H_
#define EVRELAY_HOOK_LUA_HOOK_H_

#include <memory>
#include <string>

#include "config/config.h"
#include "hook/hook.h"

namespace evrelay {

// A script as it stood in its file when it was read.
struct Script {
  std::string path;
  std::string text;
};

// Reads config.script. False: `error` says "FILE: why; what would be right".
bool ReadScript(const Config& config, Script& script, std::string& error);

// Compiles the script and runs its top level, for one second of CPU time at most. Null: `error`
// says why, with file and line. Takes from `config`: hook, event_callback, max_event.
std::unique_ptr<Hook> LoadLuaHook(const Config& config, const Script& script, std::string& error);

}  // namespace evrelay

#endif  // EVRELAY_HOOK_LUA_HOOK_H_
