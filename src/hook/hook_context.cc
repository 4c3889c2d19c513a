#include "hook/hook_context.h"

#include <cstddef>
#include <new>
#include <utility>

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

bool HookContext::Resume(SuspendedId request, std::string_view evdata) noexcept {
  if (event_ == nullptr || event_->claims == nullptr || !IsEvent(evdata)) return false;
  // Asked first, as a claim that is given back again would have kept it from other workers.
  if (verdict_->closes() || !verdict_->HasRoomFor(evdata.size())) return false;
  bool claimed = false;
  try {
    action::Resume resume{request, std::string(evdata)};
    claimed = event_->claims->Claim(request);
    if (claimed && verdict_->Add(std::move(resume), evdata.size())) return true;
  } catch (const std::bad_alloc&) {
    // As if it had no place in the verdict.
  }
  if (claimed) event_->claims->GiveBack(request);
  return false;
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
