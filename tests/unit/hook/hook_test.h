// A script and the events it is run for.

#ifndef EVRELAY_TESTS_UNIT_HOOK_HOOK_TEST_H_
#define EVRELAY_TESTS_UNIT_HOOK_HOOK_TEST_H_

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "hook/lua_hook.h"
#include "logging/log.h"
#include "support/catch.h"
#include "unit/logging/captured_stderr.h"

namespace evrelay {

inline constexpr char kFile[] = "hook.lua";

// What `act` has written to the log, without the times.
template <class F>
std::vector<std::string> LogOf(F act) {
  ShutDownLogging();  // the next line looks for stderr anew
  CapturedStderr captured;
  act();
  ShutDownLogging();
  std::vector<std::string> lines = Lines(captured.Take());
  for (std::string& line : lines) line = WithoutTime(line);
  return lines;
}

// For tests that are not about time: sanitizers make scripts slow.
inline Config Patient() {
  Config config;
  config.hook.timeout = std::chrono::minutes(1);
  return config;
}

inline HookEvent Message(std::string_view msg) {
  HookEvent event;
  event.kind = HookEventKind::kMessageReceived;
  event.connection = {7, 1};
  event.srcaddr = "127.0.0.1";
  event.srcport = 4000;
  event.msg = msg;
  return event;
}
inline HookEvent New() {
  HookEvent event = Message("");
  event.kind = HookEventKind::kConnectionNew;
  return event;
}
inline HookEvent Closed(CloseReason reason = CloseReason::kEof) {
  HookEvent event = Message("");
  event.kind = HookEventKind::kConnectionClosed;
  event.reason = reason;
  return event;
}

// An action in words: "multicast DATA TAG".
inline std::string Words(const Action& action) {
  struct {
    std::string operator()(const action::Relay& a) { return "relay " + a.evdata; }
    std::string operator()(const action::Multicast& a) {
      return "multicast " + a.evdata + " " + a.etag;
    }
    std::string operator()(const action::Unicast& a) {
      return "unicast " + a.evdata + " " + a.etag;
    }
    std::string operator()(const action::Resume& a) {
      return "resume " + std::to_string(a.request.index) + " " + std::to_string(a.request.label) +
             " " + a.evdata;
    }
    std::string operator()(const action::Reply& a) { return "reply " + a.evdata; }
    std::string operator()(const action::Close&) { return "close"; }
    std::string operator()(const action::SetTag& a) { return "set_tag " + a.etag; }
  } words;
  return std::visit(words, action);
}

class Hooked {
 public:
  explicit Hooked(const std::string& text, const Config& config = Patient()) {
    load_log_ = LogOf([&] {
      std::string error;
      hook_ = LoadLuaHook(config, {kFile, text}, error);
      INFO(error);
      REQUIRE(hook_ != nullptr);
    });
  }

  HookOutcome Run(const HookEvent& event) {
    verdict_.Clear();
    HookOutcome outcome{};
    log_ = LogOf([&] { outcome = hook_->Run(event, verdict_); });
    return outcome;
  }
  // Runs an event that must go well. What it led to, in words.
  std::vector<std::string> Do(const HookEvent& event) {
    const HookOutcome outcome = Run(event);
    INFO((log_.empty() ? "" : log_[0]));
    REQUIRE(outcome == HookOutcome::kDone);
    return actions();
  }
  std::vector<std::string> Say(std::string_view msg) { return Do(Message(msg)); }

  // Of the last event.
  const Verdict& verdict() const { return verdict_; }
  std::vector<std::string> actions() const {
    std::vector<std::string> words;
    for (const Action& action : verdict_.actions()) words.push_back(Words(action));
    return words;
  }
  const std::vector<std::string>& log() const { return log_; }
  const std::vector<std::string>& load_log() const { return load_log_; }
  Hook& hook() { return *hook_; }

 private:
  std::unique_ptr<Hook> hook_;
  std::vector<std::string> load_log_;
  Verdict verdict_;
  std::vector<std::string> log_;
};

// A script whose message-received does this.
inline std::string OnMessage(const std::string& body) {
  return "event_route['evapi:message-received'] = function(evapi) " + body + " end";
}

// Why a script cannot be loaded.
inline std::string LoadError(const std::string& text, const Config& config = Patient()) {
  std::string error;
  LogOf([&] { REQUIRE(LoadLuaHook(config, {kFile, text}, error) == nullptr); });
  return error;
}

// The last line that a failing message-received has logged, from the file's name on.
inline std::string Failure(const std::string& body, const Config& config = Patient()) {
  Hooked hooked(OnMessage(body), config);
  REQUIRE(hooked.Run(Message("hello")) == HookOutcome::kError);
  REQUIRE(hooked.log().size() == 1);
  const std::string& line = hooked.log()[0];
  const std::string before = "error hook: evapi:message-received of conidx 7 (127.0.0.1:4000): ";
  REQUIRE(line.starts_with(before));
  return line.substr(before.size());
}

// Runs Lua code that checks itself with assert.
inline void CheckLua(const std::string& body, const Config& config = Patient()) {
  INFO(body);
  Hooked(OnMessage(body), config).Say("hello");
}

}  // namespace evrelay

#endif  // EVRELAY_TESTS_UNIT_HOOK_HOOK_TEST_H_
