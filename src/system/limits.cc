#include "system/limits.h"

#include <sys/resource.h>

#include <stdexcept>
#include <string>

namespace evrelay {
namespace {

// What is open besides connections and their listeners: standard streams, the log, the event loop,
// the reserve files, the control socket with a few clients, files read at a reload.
constexpr std::uint64_t kOtherFiles = 32;

// The socket, the descriptor that it gives up when there are no others, the lock of a Unix one.
constexpr std::uint64_t kFilesOfListener = 3;

}  // namespace

std::uint64_t RaiseFileLimit() noexcept {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const rlimit raised{limit.rlim_max, limit.rlim_max};
  return ::setrlimit(RLIMIT_NOFILE, &raised) == 0 ? raised.rlim_cur : limit.rlim_cur;
}

void CheckFileLimit(std::uint64_t limit, const Config& config, std::size_t listeners) {
  const std::uint64_t others =
      config.producer.max_connections + listeners * kFilesOfListener + kOtherFiles;
  const std::uint64_t needed = config.max_clients + others;
  if (needed <= limit) return;
  const std::string clients = std::to_string(config.max_clients);
  const std::string producers = std::to_string(config.producer.max_connections);
  const std::string lower = limit > others
                                ? "lower max_clients to " + std::to_string(limit - others)
                                : "lower max_clients and producer.max_connections";
  throw std::runtime_error(
      "max_clients: " + clients + " with producer.max_connections: " + producers + " needs " +
      std::to_string(needed) + " open files, but the limit is " + std::to_string(limit) +
      ": raise the hard limit (LimitNOFILE= of the unit, ulimit -Hn) or " + lower);
}

}  // namespace evrelay
