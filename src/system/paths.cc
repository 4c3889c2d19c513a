#include "system/paths.h"

#include <cstdlib>
#include <string_view>

namespace evrelay {
namespace {

constexpr std::string_view kSocketName = "/producer.sock";

// Empty unless the variable holds an absolute path.
std::string PathFromEnvironment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && value[0] == '/' ? value : "";
}

std::string SocketOfSession() {
  const std::string directory = PathFromEnvironment("XDG_RUNTIME_DIR");
  if (directory.empty()) return "";
  return directory + "/evrelay" + std::string(kSocketName);
}

std::string SocketOfSystem() { return "/run/evrelay" + std::string(kSocketName); }

}  // namespace

std::string DefaultSocketPath() {
  const std::string directories = PathFromEnvironment("RUNTIME_DIRECTORY");
  if (!directories.empty()) {
    // A unit may have several, separated by colons.
    return directories.substr(0, directories.find(':')) + std::string(kSocketName);
  }
  const std::string of_session = SocketOfSession();
  return of_session.empty() ? SocketOfSystem() : of_session;
}

std::vector<std::string> ClientSocketCandidates() {
  std::vector<std::string> candidates;
  if (const char* named = std::getenv("EVRELAY_SOCKET"); named != nullptr && *named != '\0') {
    candidates.emplace_back(named);
  }
  if (const std::string of_session = SocketOfSession(); !of_session.empty()) {
    candidates.push_back(of_session);
  }
  candidates.push_back(SocketOfSystem());
  return candidates;
}

}  // namespace evrelay
