// YAML text as a tree of nodes that know their place in the file. The only user of yaml-cpp; of
// keys and values it knows nothing.
//
// Work and memory are bounded: the text has at most 1 MiB, the tree at most 20,000 values and 16
// levels. An alias is a second pointer to the same node, so the tree may have cycles, and a short
// file may stand for endless many values: whoever walks it bounds the walk.

#ifndef EVRELAY_CONFIG_YAML_TREE_H_
#define EVRELAY_CONFIG_YAML_TREE_H_

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"
#include "config/errors.h"

namespace evrelay {

inline constexpr std::size_t kMaxYamlBytes = kMiB;
inline constexpr std::size_t kMaxYamlNodes = 20'000;

struct TreeNode {
  enum class Kind { kNull, kScalar, kList, kMap };

  Kind kind = Kind::kNull;
  Place at;
  bool quoted = false;
  std::string text;
  std::vector<const TreeNode*> items;  // of a list; of a map: key, value, key, value, ...
};

// "nothing", "a single value", "a list" or "a map".
std::string KindName(const TreeNode& node);

// Calls `read` with the root of the first document, unless there is none or it is empty, and then
// looks for text after it. The tree lives as long as the call. Notes in `errors` what does not
// keep the tree from being read. Throws Failure, and what `read` throws.
void ReadYamlTree(std::string_view text, Errors& errors,
                  const std::function<void(const TreeNode& root)>& read);

}  // namespace evrelay

#endif  // EVRELAY_CONFIG_YAML_TREE_H_
