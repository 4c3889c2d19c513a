// The command line: argv to plain structs. The only user of CLI11. Reads no file, opens nothing.

#ifndef EVRELAY_CLI_H_
#define EVRELAY_CLI_H_

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "client/clients.h"
#include "client/operate.h"
#include "client/pub.h"
#include "client/status.h"
#include "client/sub.h"
#include "config/config.h"

namespace evrelay {

// Run the daemon. A flag that was given beats the file.
struct ServeOptions {
  std::optional<std::string> config_file;
  std::vector<std::string> bind_addr;  // empty: not given
  std::optional<std::uint32_t> workers;
  std::optional<std::string> producer_socket;
  std::optional<std::string> script;  // empty: none, whatever the file says
  std::optional<LogLevel> log_level;
  bool check = false;  // check the configuration, say so, exit
};

struct CommandLine {
  std::variant<ServeOptions, PubOptions, SubOptions, StatusOptions, ClientsOptions, CloseOptions,
               ReloadOptions, DrainOptions>
      command;
};

// Nothing to run: --help and --version (code 0, text for standard output), or a usage error
// (code 2, text for standard error). The texts end in a newline.
struct CliExit {
  int code = 0;
  std::string out;
  std::string err;
};

std::variant<CommandLine, CliExit> ParseCommandLine(int argc, const char* const* argv);

// Lays the flags that were given over a configuration read from the file (or the defaults).
void ApplyFlags(const ServeOptions& flags, Config& config);

}  // namespace evrelay

#endif  // EVRELAY_CLI_H_
