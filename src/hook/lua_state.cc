#include "hook/lua_state.h"

#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string_view>

namespace evrelay {
namespace {

using std::chrono::nanoseconds;
using Clock = std::chrono::steady_clock;

nanoseconds ThreadCpuTime() {
  timespec now;
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::chrono::seconds(now.tv_sec) + nanoseconds(now.tv_nsec);
}

// This thread's CPU time at `now`, too large by at most a millisecond. Asking the kernel costs 20
// times what steady_clock does, so the answer is used for a millisecond.
nanoseconds ThreadCpuTimeAt(Clock::time_point now) {
  struct Reading {
    Clock::time_point at{};
    nanoseconds cpu{};
  };
  thread_local Reading last;
  if (now - last.at >= std::chrono::milliseconds(1)) last = {now, ThreadCpuTime()};
  return last.cpu + (now - last.at);
}

template <std::size_t kSize>
void Copy(std::string_view text, std::array<char, kSize>& to) {
  const std::size_t size = std::min(text.size(), kSize - 1);
  std::memcpy(to.data(), text.data(), size);
  to[size] = '\0';
}

}  // namespace

LuaState::LuaState(std::uint64_t memory) : memory_limit_(memory) {
  lua_ = lua_newstate(&Allocate, this);
  if (lua_ == nullptr) throw std::bad_alloc();
  *static_cast<LuaState**>(lua_getextraspace(lua_)) = this;
  lua_sethook(lua_, &OnCount, LUA_MASKCOUNT, kInstructions);
  lua_pushcfunction(lua_, &OnError);
}

LuaState::~LuaState() { lua_close(lua_); }

HookOutcome LuaState::Call(int arguments, int results, nanoseconds budget) noexcept {
  const Clock::time_point now = Clock::now();
  budget_ = budget;
  cpu_at_start_ = ThreadCpuTimeAt(now);
  look_at_ = now + budget;
  message_[0] = place_[0] = callers_[0] = '\0';
  running_ = true;
  const int status = lua_pcall(lua_, arguments, results, kOnError);
  running_ = false;
  if (status == LUA_OK && stopped_ == Stopped::kNo) return HookOutcome::kDone;

  if (status == LUA_ERRERR) Copy("the error handler failed too", message_);
  lua_settop(lua_, lua_gettop(lua_) - (status == LUA_OK ? results : 1));
  // On its way through a coroutine or a pcall it may have become an error like others.
  const bool memory = refused_ && std::string_view(message_.data()).ends_with("not enough memory");
  outcome_ = status == LUA_ERRMEM || memory ? HookOutcome::kMemory : HookOutcome::kError;
  if (stopped_ == Stopped::kTimeout) outcome_ = HookOutcome::kTimeout;
  if (stopped_ == Stopped::kExit) outcome_ = HookOutcome::kDone;
  if (stopped_ != Stopped::kNo) lua_sethook(lua_, &OnCount, LUA_MASKCOUNT, kInstructions);
  stopped_ = Stopped::kNo;
  if (outcome_ == HookOutcome::kDone) {
    for (int i = 0; i < results; ++i) lua_pushnil(lua_);
  }
  return outcome_;
}

std::string LuaState::Failure() const {
  const std::string where = place_[0] == '\0' ? "" : std::string(place()) + ": ";
  if (outcome_ == HookOutcome::kTimeout) {
    const auto budget = std::chrono::duration_cast<std::chrono::milliseconds>(budget_);
    return where + "stopped after " + std::to_string(budget.count()) + " ms of CPU time";
  }
  if (outcome_ == HookOutcome::kMemory) {
    return where + "out of memory (hook.memory is " + std::to_string(memory_limit_ / 1024) +
           " KiB)";
  }
  const std::string message = message_.data();
  const std::string file = where.substr(0, std::string_view(place()).rfind(':') + 1);
  return message.starts_with(file) ? message : where + message;
}

void LuaState::Exit(lua_State* lua) {
  if (!stopped()) stopped_ = Stopped::kExit;
  Unwind(lua);
}

void LuaState::Unwind(lua_State* lua) {
  lua_sethook(lua, &OnCount, LUA_MASKCOUNT, 1);
  lua_pushliteral(lua, "stopped");
  lua_error(lua);
  std::abort();  // not reached
}

void LuaState::CheckTime(lua_State* lua) {
  StopIfTimeIsOver(lua);
  if (stopped()) Unwind(lua);
}

void LuaState::OnCount(lua_State* lua, lua_Debug*) { Of(lua).CheckTime(lua); }

void LuaState::StopIfTimeIsOver(lua_State* lua) {
  if (stopped() || !TimeIsOver()) return;
  stopped_ = Stopped::kTimeout;
  NotePlace(lua);
}

bool LuaState::TimeIsOver() {
  const Clock::time_point now = Clock::now();
  if (now < look_at_) return false;
  const nanoseconds used = ThreadCpuTime() - cpu_at_start_;
  if (used >= budget_) return true;
  look_at_ = now + (budget_ - used);
  return false;
}

// The message handler of Call. A memory error does not come here.
int LuaState::OnError(lua_State* lua) {
  LuaState& self = Of(lua);
  if (self.stopped()) return 1;
  self.NotePlace(lua);
  if (lua_type(lua, 1) == LUA_TSTRING) {
    std::size_t size;
    const char* text = lua_tolstring(lua, 1, &size);
    Copy({text, size}, self.message_);
  } else {
    std::snprintf(self.message_.data(), self.message_.size(), "an error that is a %s, not a text",
                  luaL_typename(lua, 1));
  }
  return 1;
}

void LuaState::NotePlace(lua_State* lua) {
  place_[0] = '\0';
  callers_[0] = '\0';
  std::size_t used = 0;
  lua_Debug frame;
  for (int level = 0; lua_getstack(lua, level, &frame) == 1; ++level) {
    lua_getinfo(lua, "Sl", &frame);
    if (frame.currentline < 0) continue;  // a C function
    if (place_[0] == '\0') {
      std::snprintf(place_.data(), place_.size(), "%s:%d", frame.short_src, frame.currentline);
      continue;
    }
    const std::size_t room = callers_.size() - used;
    const int size = std::snprintf(callers_.data() + used, room, "%s%s:%d", used == 0 ? "" : ", ",
                                   frame.short_src, frame.currentline);
    if (static_cast<std::size_t>(size) >= room) {
      callers_[used] = '\0';
      return;
    }
    used += static_cast<std::size_t>(size);
  }
}

bool LuaState::TakeRefused() {
  const bool refused = refused_;
  refused_ = false;
  return refused;
}

void* LuaState::Allocate(void* self, void* block, std::size_t old_size, std::size_t size) noexcept {
  LuaState& state = *static_cast<LuaState*>(self);
  if (block == nullptr) old_size = 0;  // it says what is to be allocated
  if (size == 0) {
    std::free(block);
    state.memory_ -= old_size;
    return nullptr;
  }
  if (size > old_size && state.Refuses(size, size - old_size)) return nullptr;
  block = std::realloc(block, size);
  if (block != nullptr) state.memory_ += size - old_size;
  return block;
}

// Lua answers a refusal with a full collection, and asks once more.
bool LuaState::Refuses(std::size_t size, std::size_t more) {
  if (!memory_limited_) return false;
  if (running_ && size >= kLargeAllocation) {
    StopIfTimeIsOver(lua_);
    if (stopped_ == Stopped::kTimeout) return true;
  }
  if (memory_ + more <= memory_limit_) return false;
  refused_ = true;
  if (running_ && !stopped()) NotePlace(lua_);
  return true;
}

}  // namespace evrelay
