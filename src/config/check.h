// Checks that need no file position. CheckConfig finds what no key shows alone: values that are
// each possible but do not go together. Run it on the final configuration, after the flags have
// been applied and before anything is opened.

#ifndef EVRELAY_CONFIG_CHECK_H_
#define EVRELAY_CONFIG_CHECK_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"

namespace evrelay {

// Of the key workers and of --workers.
inline constexpr std::uint32_t kMaxWorkers = 256;

// One line an error, without a position (a value may have come from a flag); empty: all good.
std::vector<std::string> CheckConfig(const Config& config);

// What is wrong with one entry of bind_addr, and what would be right; empty: nothing. Only the
// syntax: names are not resolved. The file and --bind-addr are held to the same rule.
std::string BindAddressError(std::string_view text);

// What is wrong with a listener whose values are each possible; empty: nothing.
std::string ListenerError(const ListenConfig& listener);

// What is wrong with the path of a Unix socket, and what would be right; empty: nothing.
std::string SocketPathError(std::string_view path);

// A value as errors show it: in quotes, on one line, control bytes as \xNN, cut when it is long.
std::string Quoted(std::string_view text);

}  // namespace evrelay

#endif  // EVRELAY_CONFIG_CHECK_H_
