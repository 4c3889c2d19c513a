#include "hook/hook_context.h"

#include <cstddef>
#include <new>

namespace evrelay {

HookContext::HookContext(std::uint32_t max_event) : max_event_(max_event) { tag_.reserve(kMaxTag); }

bool HookContext::Relay(std::string_view evdata) noexcept {
  return IsEvent(evdata) && Add<action::Relay>(evdata);
}

bool HookContext::Multicast(std::string_view evdata, std::string_view etag) noexcept {
  return IsEvent(evdata) && IsTag(etag) && Add<action::Multicast>(evdata, etag);
}

bool HookContext::Unicast(std::string_view evdata, std::string_view etag) noexcept {
  return IsEvent(evdata) && IsTag(etag) && Add<action::Unicast>(evdata, etag);
}

bool HookContext::Reply(std::string_view evdata) noexcept {
  return HasConnection() && IsEvent(evdata) && Add<action::Reply>(evdata);
}

bool HookContext::Close() noexcept { return HasConnection() && Add<action::Close>(); }

bool HookContext::SetTag(std::string_view etag) noexcept {
  if (!HasConnection() || etag.size() > kMaxTag || !Add<action::SetTag>(etag)) return false;
  tag_ = etag;
  tag_set_ = true;
  return true;
}

template <class A, class... Texts>
bool HookContext::Add(Texts... texts) noexcept {
  const std::size_t bytes = (texts.size() + ... + std::size_t{0});
  if (verdict_ == nullptr || !verdict_->HasRoomFor(bytes)) return false;
  try {
    return verdict_->Add(A{std::string(texts)...}, bytes);
  } catch (const std::bad_alloc&) {
    return false;
  }
}

}  // namespace evrelay
