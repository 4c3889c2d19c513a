#include "relay/suspended_table.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>

namespace evrelay {

namespace {

// The kernel's. std::random_device asks the processor, and some say one number twice running.
std::uint32_t RandomBits() {
  std::uint32_t bits;
  if (getentropy(&bits, sizeof bits) != 0) std::abort();  // only on kernels without getrandom
  return bits;
}

}  // namespace

SuspendedId SuspendedTable::Suspend(Requester& requester, Clock::time_point deadline) {
  // A system call, so not under the lock. Labels change on this thread only.
  const std::uint32_t last = free_.empty() ? 0 : slots_[free_.back()].label;
  std::uint32_t label;
  do {
    label = RandomBits();
  } while (label == 0 || label == last);

  const std::lock_guard lock(mutex_);
  if (free_.empty()) {
    if (slots_.size() == slots_.capacity()) {
      slots_.reserve(std::max<std::size_t>(2 * slots_.size(), 64));
    }
    free_.reserve(slots_.capacity());  // nothing that ends a request needs memory
    slots_.emplace_back();
    free_.push_back(static_cast<std::uint32_t>(slots_.size() - 1));
  }
  const std::uint32_t index = free_.back();
  Slot& slot = slots_[index];
  deadlines_.emplace(deadline, index);
  free_.pop_back();
  slot = {Slot::State::kWaiting, false, label, &requester, deadline};
  return {index, label};
}

bool SuspendedTable::Claim(SuspendedId request) noexcept {
  const std::lock_guard lock(mutex_);
  Slot* slot = Find(request);
  if (slot == nullptr || slot->state != Slot::State::kWaiting) {
    ++refused_;
    return false;
  }
  slot->state = Slot::State::kClaimed;
  return true;
}

void SuspendedTable::GiveBack(SuspendedId request) noexcept {
  const std::lock_guard lock(mutex_);
  Slot* slot = Find(request);
  if (slot == nullptr || slot->state != Slot::State::kClaimed) return;
  slot->state = Slot::State::kWaiting;
  if (!slot->in_grace) return;
  slot->in_grace = false;
  SetDeadline(request.index, slot->deadline - kClaimGrace);
}

Requester* SuspendedTable::Fulfil(SuspendedId request) {
  const std::lock_guard lock(mutex_);
  const Slot* slot = Find(request);
  if (slot == nullptr || slot->state != Slot::State::kClaimed) return nullptr;
  Requester* requester = slot->requester;
  Free(request.index);
  return requester;
}

std::optional<SuspendedTable::Expired> SuspendedTable::Expire(Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    const std::uint32_t index = deadlines_.begin()->second;
    Slot& slot = slots_[index];
    if (slot.state == Slot::State::kClaimed && !slot.in_grace) {
      slot.in_grace = true;
      SetDeadline(index, slot.deadline + kClaimGrace);
      continue;
    }
    const Expired expired{{index, slot.label}, slot.requester};
    Free(index);
    return expired;
  }
  return std::nullopt;
}

std::optional<SuspendedTable::Clock::time_point> SuspendedTable::NextDeadline() const {
  const std::lock_guard lock(mutex_);
  if (deadlines_.empty()) return std::nullopt;
  return deadlines_.begin()->first;
}

std::uint64_t SuspendedTable::refused() const {
  const std::lock_guard lock(mutex_);
  return refused_;
}

void SuspendedTable::End(SuspendedId request) {
  const std::lock_guard lock(mutex_);
  if (Find(request) != nullptr) Free(request.index);
}

SuspendedTable::Slot* SuspendedTable::Find(SuspendedId request) {
  if (request.index >= slots_.size()) return nullptr;
  Slot& slot = slots_[request.index];
  return slot.state != Slot::State::kFree && slot.label == request.label ? &slot : nullptr;
}

// Allocates nothing, so that GiveBack cannot fail.
void SuspendedTable::SetDeadline(std::uint32_t index, Clock::time_point deadline) {
  auto node = deadlines_.extract({slots_[index].deadline, index});
  node.value().first = deadline;
  deadlines_.insert(std::move(node));
  slots_[index].deadline = deadline;
}

void SuspendedTable::Free(std::uint32_t index) {
  Slot& slot = slots_[index];
  deadlines_.erase({slot.deadline, index});
  slot.state = Slot::State::kFree;
  slot.requester = nullptr;
  free_.push_back(index);
}

}  // namespace evrelay
