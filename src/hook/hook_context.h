// HookContext: what a script's functions act on: the event it runs for and the verdict they build.
//
// Thread safety: none; belongs to one LuaHook.

#ifndef EVRELAY_HOOK_HOOK_CONTEXT_H_
#define EVRELAY_HOOK_HOOK_CONTEXT_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "evrelay/action.h"
#include "hook/hook.h"

namespace evrelay {

class HookContext {
 public:
  // No event may be larger than `max_event` bytes.
  explicit HookContext(std::uint32_t max_event);

  void Begin(const HookEvent& event, Verdict& verdict) {
    event_ = &event;
    verdict_ = &verdict;
    tag_set_ = false;
  }
  void End() {
    event_ = nullptr;
    verdict_ = nullptr;
  }

  // Null while a script is loaded.
  const HookEvent* event() const { return event_; }
  // Only in an event. What SetTag said, else what the event says.
  std::string_view tag() const { return tag_set_ ? std::string_view(tag_) : event_->tag; }

  // Add an action. False: it may not be added, or no event is there to add it for.
  bool Relay(std::string_view evdata) noexcept;
  bool Multicast(std::string_view evdata, std::string_view etag) noexcept;
  bool Unicast(std::string_view evdata, std::string_view etag) noexcept;
  bool Resume(SuspendedId request, std::string_view evdata) noexcept;
  bool Reply(std::string_view evdata) noexcept;
  bool Close() noexcept;
  bool SetTag(std::string_view etag) noexcept;

 private:
  // The connection is there to be acted on.
  bool HasConnection() const {
    return event_ != nullptr && event_->kind != HookEventKind::kConnectionClosed;
  }
  bool IsEvent(std::string_view evdata) const {
    return !evdata.empty() && evdata.size() <= max_event_;
  }
  static bool IsTag(std::string_view etag) { return !etag.empty() && etag.size() <= kMaxTag; }
  template <class A, class... Texts>
  bool Add(Texts... texts) noexcept;

  const std::uint32_t max_event_;
  const HookEvent* event_ = nullptr;
  Verdict* verdict_ = nullptr;
  bool tag_set_ = false;
  std::string tag_;
};

}  // namespace evrelay

#endif  // EVRELAY_HOOK_HOOK_CONTEXT_H_
