#include "unit/net/net_test.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <map>
#include <optional>
#include <string_view>

#include "logging/log.h"

namespace evrelay {
namespace {

std::optional<rlim_t> accept_limit;

// Calls the C library's function of this name under accept_limit.
template <class Function, class... Args>
int CallLimited(const char* name, Args... args) {
  const auto real = reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
  if (!accept_limit) return real(args...);
  rlimit saved;
  getrlimit(RLIMIT_NOFILE, &saved);
  const rlimit limited{*accept_limit, saved.rlim_max};
  setrlimit(RLIMIT_NOFILE, &limited);
  const int result = real(args...);
  const int error = errno;
  setrlimit(RLIMIT_NOFILE, &saved);
  errno = error;
  return result;
}

}  // namespace

SocketAddress Ipv4(const char* ip, std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  REQUIRE(inet_pton(AF_INET, ip, &address.sin_addr) == 1);
  return SocketAddress::FromSockaddr(reinterpret_cast<sockaddr*>(&address), sizeof address);
}

SocketAddress Ipv6(const char* ip, std::uint16_t port) {
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(port);
  REQUIRE(inet_pton(AF_INET6, ip, &address.sin6_addr) == 1);
  return SocketAddress::FromSockaddr(reinterpret_cast<sockaddr*>(&address), sizeof address);
}

AcceptLimit::AcceptLimit(rlim_t soft) { accept_limit = soft; }
AcceptLimit::~AcceptLimit() { accept_limit.reset(); }

std::vector<std::string> TempDirectory::Names() const {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path_)) {
    names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

LoggedLines::LoggedLines() {
  LogConfig config;
  config.target = directory_.File("log");
  SetUpLogging(config);
}

LoggedLines::~LoggedLines() { ShutDownLogging(); }

std::vector<std::string> LoggedLines::Take() {
  ShutDownLogging();
  std::vector<std::string> lines;
  std::ifstream file(directory_.File("log"));
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

UniqueFd ForeignListener(const std::string& path, int backlog) {
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_un address = UnixSockaddr(path);
  REQUIRE(bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  REQUIRE(listen(fd.get(), backlog) == 0);
  return fd;
}

void LeaveDeadSocket(const std::string& path) { ForeignListener(path).Close(); }

bool HasIpv6() {
  const UniqueFd fd(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_addr = in6addr_loopback;
  return fd && bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
}

}  // namespace evrelay

// These stand before the C library's functions of the same names.

extern "C" int accept4(int fd, sockaddr* address, socklen_t* size, int flags) {
  return evrelay::CallLimited<decltype(accept4)>("accept4", fd, address, size, flags);
}

extern "C" int eventfd(unsigned count, int flags) noexcept {
  return evrelay::CallLimited<decltype(eventfd)>("eventfd", count, flags);
}

// Asks the real one for literals only: no test depends on the machine's
// names. freeaddrinfo frees the joined lists like one.
extern "C" int getaddrinfo(const char* node, const char* service, const addrinfo* hints,
                           addrinfo** result) {
  static const std::map<std::string_view, std::vector<const char*>> kNames{
      {"several.test", {"127.0.0.1", "127.0.0.2", "127.0.0.1"}},
      {"both.test", {"127.0.0.1", "::1"}},
      {"lacking.test", {"127.0.0.1", "2001:db8::1"}},
      {"absent.test", {"2001:db8::1"}},
      {"foreign.test", {"127.0.0.1", "203.0.113.1"}},
  };
  static const auto real =
      reinterpret_cast<decltype(&getaddrinfo)>(dlsym(RTLD_NEXT, "getaddrinfo"));
  addrinfo numeric = *hints;
  numeric.ai_flags |= AI_NUMERICHOST;
  const auto name = kNames.find(node);
  if (name == kNames.end()) return real(node, service, &numeric, result);
  for (const char* literal : name->second) {
    if (const int status = real(literal, service, &numeric, result); status != 0) return status;
    while (*result != nullptr) result = &(*result)->ai_next;
  }
  return 0;
}
