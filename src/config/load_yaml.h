// The configuration file: YAML text to Config. Here are the keys; yaml_tree reads the text, values
// the single values.
//
// Strict: an unknown or repeated key, a wrong type or an impossible value is an error, each on one
// line "FILE:LINE:COLUMN: what is wrong; what would be right". Lines and columns count from 1,
// columns in bytes. All errors of a file are found, not just the first; only text that is no YAML
// ends the search. Nothing is thrown but std::bad_alloc.
//
// Work and memory are bounded: a file has at most 1 MiB, 20,000 values (aliases counted each time
// they are followed) and 16 levels, and the first 100 errors are shown.
//
// Called at start, by --check and on reload, by one thread at a time.

#ifndef EVRELAY_CONFIG_LOAD_YAML_H_
#define EVRELAY_CONFIG_LOAD_YAML_H_

#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"

namespace evrelay {

struct LoadedConfig {
  Config config;                    // not to be used when there are errors
  std::vector<std::string> errors;  // in the order of the file; empty: the config is good
};

// A file that cannot be read is an error too, "FILE: why".
LoadedConfig LoadYaml(const std::string& path);

// The same on text; `name` stands for FILE in errors.
LoadedConfig ParseYaml(std::string_view text, const std::string& name);

}  // namespace evrelay

#endif  // EVRELAY_CONFIG_LOAD_YAML_H_
