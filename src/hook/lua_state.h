// LuaState: a Lua state whose calls are bounded in CPU time and whose memory is bounded for good.
//
// Time: a count hook looks at the clock every kInstructions instructions. When the time is over, or
// the script has asked for its end, the call is *stopped*: from then on every instruction of every
// coroutine raises an error, so that all that pcall and coroutines can do is unwind.
// Lua runs no hooks in finalizers, and none in a message handler or a coroutine's to-be-closed
// variables after an error that a hook raised; lua_sandbox sees to it that no script has its code
// run there.
//
// Memory: counted in the allocator, which refuses what would go beyond the limit. Large allocations
// look at the clock too, as one instruction may cost a copy of megabytes.
//
// Lua raises errors by longjmp: no C++ object with a destructor may be alive where one can be
// raised, and no exception may leave a function that Lua calls.
//
// Thread safety: none; may be used on another thread than it was built on.

#ifndef EVRELAY_HOOK_LUA_STATE_H_
#define EVRELAY_HOOK_LUA_STATE_H_

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <lua.hpp>
#include <string>

#include "metrics/reasons.h"

namespace evrelay {

class LuaState {
 public:
  // Has no libraries yet. Throws std::bad_alloc.
  explicit LuaState(std::uint64_t memory);
  ~LuaState();
  LuaState(const LuaState&) = delete;
  LuaState& operator=(const LuaState&) = delete;

  // The state that `lua`, its main thread or one of its coroutines, belongs to.
  static LuaState& Of(lua_State* lua) { return **static_cast<LuaState**>(lua_getextraspace(lua)); }
  lua_State* lua() const { return lua_; }

  // Calls the function that lies below its `arguments` on the stack. They are popped; `results`
  // take their place if this returns kDone, nil after an Exit. Never kNoRoute.
  HookOutcome Call(int arguments, int results, std::chrono::nanoseconds budget) noexcept;

  // Of the last call, unless it was kDone: why, as "FILE:LINE: what" if a line of the script can be
  // blamed.
  std::string Failure() const;
  // "FILE:LINE" of the line that was running, or empty; and of those that had called it.
  const char* place() const { return place_.data(); }
  const char* callers() const { return callers_.data(); }

  // For functions that Lua calls.
  // Ends the running call, which then returns kDone.
  [[noreturn]] void Exit(lua_State* lua);
  bool stopped() const { return stopped_ != Stopped::kNo; }
  [[noreturn]] void Unwind(lua_State* lua);  // only when stopped
  // Stops the call if its time is over. For loops that run no Lua code.
  void CheckTime(lua_State* lua);

  // Bytes in use, the most that may be, and whether that has stopped an allocation since this was
  // last asked.
  std::uint64_t memory() const { return memory_; }
  std::uint64_t memory_limit() const { return memory_limit_; }
  bool TakeRefused();
  // While off, allocations may go beyond the limit.
  void set_memory_limited(bool limited) { memory_limited_ = limited; }

 private:
  using Clock = std::chrono::steady_clock;

  static constexpr int kInstructions = 100;
  static constexpr std::size_t kLargeAllocation = 4096;
  static constexpr int kOnError = 1;  // where the message handler stands on the stack

  // Why the running call is to end.
  enum class Stopped : std::uint8_t { kNo, kTimeout, kExit };

  static void* Allocate(void* self, void* block, std::size_t old_size, std::size_t size) noexcept;
  static void OnCount(lua_State* lua, lua_Debug*);
  static int OnError(lua_State* lua);

  bool Refuses(std::size_t size, std::size_t more);
  bool TimeIsOver();
  void StopIfTimeIsOver(lua_State* lua);
  void NotePlace(lua_State* lua);

  lua_State* lua_ = nullptr;

  std::uint64_t memory_ = 0;
  const std::uint64_t memory_limit_;
  bool memory_limited_ = true;
  bool refused_ = false;

  // Of the running call.
  bool running_ = false;
  Stopped stopped_ = Stopped::kNo;
  std::chrono::nanoseconds budget_{};
  std::chrono::nanoseconds cpu_at_start_{};
  Clock::time_point look_at_{};  // CPU time cannot be over before

  // Of the last failure.
  HookOutcome outcome_ = HookOutcome::kDone;
  std::array<char, 1024> message_{};
  std::array<char, 128> place_{};
  std::array<char, 512> callers_{};
};

}  // namespace evrelay

#endif  // EVRELAY_HOOK_LUA_STATE_H_
