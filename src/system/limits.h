// The limit of open files. Called at start and by a reload.

#ifndef EVRELAY_SYSTEM_LIMITS_H_
#define EVRELAY_SYSTEM_LIMITS_H_

#include <cstddef>
#include <cstdint>

#include "config/config.h"

namespace evrelay {

// Raises the soft limit to the hard one, as far as the system lets it. Returns the soft limit.
std::uint64_t RaiseFileLimit() noexcept;

// Throws std::runtime_error when `config` promises more connections than `limit` files allow beside
// those of so many `listeners` for subscribers; the message says which number to change.
void CheckFileLimit(std::uint64_t limit, const Config& config, std::size_t listeners);

}  // namespace evrelay

#endif  // EVRELAY_SYSTEM_LIMITS_H_
