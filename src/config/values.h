// How one value of the configuration file becomes a number, a size, a time, a mode, an id, ...;
// and the words of errors about values and names. Which key takes which is load_yaml's to say.
//
// An error text is "WHAT IS WRONG; give RIGHT", without key and place; empty: nothing is wrong.

#ifndef EVRELAY_CONFIG_VALUES_H_
#define EVRELAY_CONFIG_VALUES_H_

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/config.h"
#include "config/yaml_tree.h"

namespace evrelay {

inline constexpr std::uint64_t kGiB = 1024 * kMiB;

// Reads one value into the variable it was made for. Returns the error text.
using ReadValue = std::function<std::string(const TreeNode& node)>;

ReadValue NumberInto(std::uint32_t& to, std::uint32_t min, std::uint32_t max);

ReadValue BoolInto(bool& to);

// Bytes.
ReadValue SizeInto(std::uint32_t& to, std::uint32_t min, std::uint32_t max);
ReadValue SizeInto(std::uint64_t& to, std::uint64_t min, std::uint64_t max);

// The same, or auto, which is none.
ReadValue SizeOrAutoInto(std::optional<std::uint32_t>& to, std::uint32_t min, std::uint32_t max);

ReadValue TimeInto(std::chrono::milliseconds& to, std::chrono::milliseconds min,
                   std::chrono::milliseconds max = std::chrono::minutes(60));

// Permission bits.
ReadValue ModeInto(mode_t& to);

// A numeric id, or the name of a user or group in the system's database.
enum class IdKind { kUser, kGroup };
ReadValue IdInto(std::optional<uid_t>& to, IdKind kind);

// The same, or nothing, which is none.
ReadValue OwnerInto(std::optional<uid_t>& to, IdKind kind);

ReadValue SocketPathInto(std::string& to);
ReadValue LogTargetInto(std::string& to);

// The path of a file, relative to the working directory or absolute, or nothing, which is empty.
ReadValue FileInto(std::string& to);

// "10.0.0.0/8", "2001:db8::/32", or one address.
ReadValue NetworkInto(Network& to);

// The name of a Lua function, or nothing, which is empty.
ReadValue LuaNameInto(std::string& to);

// Sets `index` to that of the name `node` is among `names`. Returns the error text.
std::string ReadChoice(const TreeNode& node, const std::vector<std::string>& names,
                       std::size_t& index);

template <class T>
ReadValue ChoiceInto(T& to, std::initializer_list<std::pair<const char*, T>> choices) {
  std::vector<std::string> names;
  std::vector<T> values;
  for (const auto& [name, value] : choices) {
    names.emplace_back(name);
    values.push_back(value);
  }
  return [&to, names, values](const TreeNode& node) {
    std::size_t index = 0;
    std::string error = ReadChoice(node, names, index);
    if (error.empty()) to = values[index];
    return error;
  };
}

// The error text when `node` is no single value of one line; `right` is what would be right.
std::string ScalarError(const TreeNode& node, const std::string& right);

// What stands in the place of something else: "found a list".
std::string Found(const TreeNode& node);

// The one of `names` that `name` is a misspelling of; empty: none comes near.
std::string Nearest(std::string name, const std::vector<std::string>& names);

// "a, b and c", where `last` is " and ".
std::string Joined(const std::vector<std::string>& words, std::string_view last);

}  // namespace evrelay

#endif  // EVRELAY_CONFIG_VALUES_H_
