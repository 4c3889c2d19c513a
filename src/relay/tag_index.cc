#include "relay/tag_index.h"

#include <new>

namespace evrelay {

void TagIndex::Set(std::uint32_t conidx, std::string_view tag) {
  if (conidx >= tag_of_.size()) {
    if (tag.empty()) return;
    tag_of_.resize(conidx + std::size_t{1}, nullptr);
  }
  Tags::value_type*& now = tag_of_[conidx];
  if (now != nullptr) {
    if (now->first == tag) return;
    now->second.erase(conidx);
    if (now->second.empty()) tags_.erase(tags_.find(now->first));
    now = nullptr;
  }
  if (tag.empty()) return;
  const auto entry = tags_.try_emplace(std::string(tag)).first;
  try {
    entry->second.insert(conidx);
  } catch (const std::bad_alloc&) {
    if (entry->second.empty()) tags_.erase(entry);
    throw;
  }
  now = &*entry;
}

const TagIndex::Members* TagIndex::Find(std::string_view tag) const {
  const auto found = tags_.find(tag);
  return found == tags_.end() ? nullptr : &found->second;
}

std::string_view TagIndex::tag_of(std::uint32_t conidx) const {
  if (conidx >= tag_of_.size() || tag_of_[conidx] == nullptr) return {};
  return tag_of_[conidx]->first;
}

}  // namespace evrelay
