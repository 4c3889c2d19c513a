#include "config/values.h"

#include <arpa/inet.h>
#include <grp.h>
#include <pwd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <span>
#include <system_error>

#include "config/check.h"

namespace evrelay {
namespace {

using std::chrono::milliseconds;

// What a number stands for by its unit. The first entry is the one for 1.
struct Unit {
  std::string_view name;
  std::uint64_t factor;
};
constexpr Unit kSizeUnits[] = {{"", 1}, {"KiB", kKiB}, {"MiB", kMiB}, {"GiB", kGiB}};
constexpr Unit kTimeUnits[] = {{"ms", 1}, {"s", 1'000}, {"min", 60'000}};

std::string Wrong(const std::string& what, const std::string& right) {
  return what + "; give " + right;
}

// The same as ScalarError for what YAML itself tells apart from text.
std::string PlainScalarError(const TreeNode& node, const std::string& right) {
  std::string error = ScalarError(node, right);
  if (!error.empty() || !node.quoted) return error;
  return Wrong(Quoted(node.text) + " is text, as it is in quotes", right + ", without quotes");
}

// A whole decimal number without sign and leading zeros; one past 64 bits is read as the largest.
std::optional<std::uint64_t> ParseDigits(std::string_view text) {
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  if (text.empty() || !std::ranges::all_of(text, digit)) return {};
  if (text.size() > 1 && text[0] == '0') return {};
  std::uint64_t value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  return result.ec == std::errc() ? value : UINT64_MAX;
}

// A number with a unit.
struct Quantity {
  std::span<const Unit> units;
  std::uint64_t min;
  std::uint64_t max;
  std::string right;
};

template <class T>
std::string ReadQuantity(const TreeNode& node, const Quantity& q, T& to) {
  std::string error = ScalarError(node, q.right);
  if (!error.empty()) return error;
  const std::string& text = node.text;
  const std::size_t split = std::min(text.find_first_not_of("0123456789"), text.size());
  const std::string unit_name = text.substr(split);
  const std::optional<std::uint64_t> number = ParseDigits(text.substr(0, split));
  if (!number) return Wrong(Quoted(text) + " does not start with a whole number", q.right);
  const auto unit = std::ranges::find(q.units, unit_name, &Unit::name);
  if (unit == q.units.end()) {
    const bool none = unit_name.empty();
    const std::string what = none ? " has no unit" : " has an unknown unit, " + Quoted(unit_name);
    return Wrong(Quoted(text) + what, q.right);
  }
  if (*number > q.max / unit->factor || *number * unit->factor < q.min) {
    return Wrong(Quoted(text) + " is out of range", q.right);
  }
  to = static_cast<T>(*number * unit->factor);
  return {};
}

// In the largest unit that fits.
std::string Written(std::uint64_t value, std::span<const Unit> units) {
  const Unit* best = units.data();
  for (const Unit& unit : units) {
    if (value >= unit.factor && value % unit.factor == 0) best = &unit;
  }
  return std::to_string(value / best->factor) + std::string(best->name);
}

Quantity SizeRange(std::uint64_t min, std::uint64_t max) {
  return {kSizeUnits, min, max,
          "a size from " + Written(min, kSizeUnits) + " to " + Written(max, kSizeUnits) +
              ", in bytes or in KiB, MiB or GiB, such as 64KiB"};
}

int LookUp(const char* name, std::vector<char>& buffer, std::optional<uid_t>& id, IdKind kind) {
  if (kind == IdKind::kUser) {
    passwd entry;
    passwd* found = nullptr;
    const int error = getpwnam_r(name, &entry, buffer.data(), buffer.size(), &found);
    if (found != nullptr) id = found->pw_uid;
    return error;
  }
  group entry;
  group* found = nullptr;
  const int error = getgrnam_r(name, &entry, buffer.data(), buffer.size(), &found);
  if (found != nullptr) id = found->gr_gid;
  return error;
}

std::optional<uid_t> FindId(const std::string& name, IdKind kind) {
  std::optional<uid_t> id;
  std::vector<char> buffer(4096);
  while (LookUp(name.c_str(), buffer, id, kind) == ERANGE && buffer.size() < kMiB) {
    buffer.resize(buffer.size() * 4);  // a group with many members
  }
  return id;
}

// The fewest single-letter edits, swaps of neighbours included, that make `a` of `b`.
std::size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (std::size_t k = 0; k <= b.size(); ++k) last[k] = k;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t k = 1; k <= b.size(); ++k) {
      row[k] = std::min({last[k] + 1, row[k - 1] + 1, last[k - 1] + (a[i - 1] != b[k - 1])});
      if (i > 1 && k > 1 && a[i - 1] == b[k - 2] && a[i - 2] == b[k - 1]) {
        row[k] = std::min(row[k], before[k - 2] + 1);
      }
    }
    std::swap(before, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

}  // namespace

std::string Found(const TreeNode& node) {
  if (node.kind == TreeNode::Kind::kScalar) return Quoted(node.text) + " is a single value";
  if (node.kind == TreeNode::Kind::kNull) return "no value";
  return "found " + KindName(node);
}

std::string ScalarError(const TreeNode& node, const std::string& right) {
  if (node.kind != TreeNode::Kind::kScalar) return Wrong(Found(node), right);
  const auto control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  if (!std::ranges::any_of(node.text, control)) return {};
  return Wrong(Quoted(node.text) + " has a control character in it", right);
}

ReadValue NumberInto(std::uint32_t& to, std::uint32_t min, std::uint32_t max) {
  return [&to, min, max](const TreeNode& node) {
    const std::string right =
        "a whole number from " + std::to_string(min) + " to " + std::to_string(max);
    std::string error = PlainScalarError(node, right);
    if (!error.empty()) return error;
    const std::optional<std::uint64_t> value = ParseDigits(node.text);
    if (!value) return Wrong(Quoted(node.text) + " is not a whole number", right);
    if (*value < min || *value > max) return Wrong(Quoted(node.text) + " is out of range", right);
    to = static_cast<std::uint32_t>(*value);
    return std::string();
  };
}

ReadValue BoolInto(bool& to) {
  return [&to](const TreeNode& node) {
    const std::string right = "true or false";
    std::string error = PlainScalarError(node, right);
    if (!error.empty()) return error;
    if (node.text != "true" && node.text != "false") {
      return Wrong(Quoted(node.text) + " is neither true nor false", right);
    }
    to = node.text == "true";
    return std::string();
  };
}

ReadValue SizeInto(std::uint32_t& to, std::uint32_t min, std::uint32_t max) {
  return [&to, range = SizeRange(min, max)](const TreeNode& node) {
    return ReadQuantity(node, range, to);
  };
}

ReadValue SizeInto(std::uint64_t& to, std::uint64_t min, std::uint64_t max) {
  return [&to, range = SizeRange(min, max)](const TreeNode& node) {
    return ReadQuantity(node, range, to);
  };
}

ReadValue SizeOrAutoInto(std::optional<std::uint32_t>& to, std::uint32_t min, std::uint32_t max) {
  Quantity range = SizeRange(min, max);
  range.right = "auto, or " + range.right;
  return [&to, range](const TreeNode& node) {
    if (node.kind != TreeNode::Kind::kScalar || node.text != "auto") {
      return ReadQuantity(node, range, to);
    }
    to.reset();
    return std::string();
  };
}

ReadValue TimeInto(milliseconds& to, milliseconds min, milliseconds max) {
  const auto least = static_cast<std::uint64_t>(min.count());
  const auto most = static_cast<std::uint64_t>(max.count());
  const Quantity range{kTimeUnits, least, most,
                       "a time from " + Written(least, kTimeUnits) + " to " +
                           Written(most, kTimeUnits) + ", in ms, s or min, such as 10s"};
  return [&to, range](const TreeNode& node) { return ReadQuantity(node, range, to); };
}

ReadValue ModeInto(mode_t& to) {
  return [&to](const TreeNode& node) {
    const std::string right = R"(octal digits in quotes from "0000" to "0777", such as "0660")";
    std::string error = ScalarError(node, right);
    if (!error.empty()) return error;
    const std::string& text = node.text;
    unsigned mode = 0;
    const char* end = text.data() + text.size();
    const auto result = std::from_chars(text.data(), end, mode, 8);
    const bool octal = result.ec == std::errc() && result.ptr == end;
    if (!octal || text.size() < 3 || text.size() > 5) {
      return Wrong(Quoted(text) + " is not a file mode", right);
    }
    if (!node.quoted) {
      return Wrong(text + " is not in quotes, so YAML may take it for another number", right);
    }
    if (mode > 0777) return Wrong(Quoted(text) + " is out of range", right);
    to = static_cast<mode_t>(mode);
    return std::string();
  };
}

ReadValue IdInto(std::optional<uid_t>& to, IdKind kind) {
  return [&to, kind](const TreeNode& node) {
    constexpr std::uint64_t kMaxId = 0xffff'fffe;  // the next one means "none" to the kernel
    const std::string what = kind == IdKind::kUser ? "user" : "group";
    const std::string right =
        "the name of a " + what + " of this system, or a number up to " + std::to_string(kMaxId);
    std::string error = ScalarError(node, right);
    if (!error.empty()) return error;
    std::optional<uid_t> id;
    if (const std::optional<std::uint64_t> number = ParseDigits(node.text)) {
      if (*number > kMaxId) return Wrong(Quoted(node.text) + " is out of range", right);
      id = static_cast<uid_t>(*number);
    } else {
      id = FindId(node.text, kind);
    }
    if (!id) return Wrong("there is no " + what + " " + Quoted(node.text), right);
    to = id;
    return std::string();
  };
}

ReadValue OwnerInto(std::optional<uid_t>& to, IdKind kind) {
  return [read = IdInto(to, kind)](const TreeNode& node) {
    return node.kind == TreeNode::Kind::kNull ? std::string() : read(node);
  };
}

ReadValue SocketPathInto(std::string& to) {
  return [&to](const TreeNode& node) {
    std::string error = ScalarError(node, "the absolute path of a Unix socket");
    if (error.empty()) error = SocketPathError(node.text);
    if (error.empty()) to = node.text;
    return error;
  };
}

ReadValue LogTargetInto(std::string& to) {
  return [&to](const TreeNode& node) {
    const std::string right = "stderr, syslog, journald or the absolute path of a file";
    std::string error = ScalarError(node, right);
    if (!error.empty()) return error;
    const std::string& text = node.text;
    const bool path = text.starts_with('/') && !text.ends_with('/');
    if (!path && text != "stderr" && text != "syslog" && text != "journald") {
      return Wrong(Quoted(text) + " is not a log target", right);
    }
    to = text;
    return std::string();
  };
}

ReadValue FileInto(std::string& to) {
  return [&to](const TreeNode& node) {
    if (node.kind == TreeNode::Kind::kNull) {
      to.clear();
      return std::string();
    }
    std::string error = ScalarError(node, "the path of a file");
    if (error.empty()) to = node.text;
    return error;
  };
}

namespace {

// Sets the bits of `network` after its prefix to 0. True: they were 0 before.
bool Mask(Network& network) {
  const Network before = network;
  for (std::size_t i = 0; i < network.ip.size(); ++i) {
    const std::size_t kept = std::clamp<std::size_t>(network.bits, i * 8, i * 8 + 8) - i * 8;
    network.ip[i] &= static_cast<unsigned char>(0xff00 >> kept);
  }
  return network == before;
}

std::string ToText(const Network& network) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  inet_ntop(network.ipv6 ? AF_INET6 : AF_INET, network.ip.data(), text.data(), text.size());
  return std::string(text.data()) + "/" + std::to_string(network.bits);
}

}  // namespace

ReadValue NetworkInto(Network& to) {
  return [&to](const TreeNode& node) {
    std::string error = ScalarError(node, "a network such as 10.0.0.0/8");
    if (!error.empty()) return error;
    const std::size_t slash = node.text.find('/');
    const std::string ip = node.text.substr(0, slash);
    to = Network();
    to.ipv6 = inet_pton(AF_INET6, ip.c_str(), to.ip.data()) == 1;
    if (!to.ipv6 && inet_pton(AF_INET, ip.c_str(), to.ip.data()) != 1) {
      return Quoted(node.text) + " is no network; give one such as 10.0.0.0/8 or 2001:db8::/32";
    }
    const unsigned max = to.ipv6 ? 128 : 32;
    unsigned bits = max;
    if (slash != std::string::npos) {
      const char* begin = node.text.data() + slash + 1;
      const char* end = node.text.data() + node.text.size();
      const auto [at, failure] = std::from_chars(begin, end, bits);
      if (failure != std::errc() || at != end || bits > max) {
        return Quoted(node.text) + " has no valid prefix length; give one from /0 to /" +
               std::to_string(max);
      }
    }
    to.bits = static_cast<std::uint8_t>(bits);
    if (!Mask(to)) {
      return Quoted(node.text) + " has bits after its prefix; give " + ToText(to) +
             ", or the address alone";
    }
    return std::string();
  };
}

ReadValue LuaNameInto(std::string& to) {
  return [&to](const TreeNode& node) {
    const std::string right =
        "the name of a Lua function: letters, digits and underscores, no digit first";
    if (node.kind == TreeNode::Kind::kNull) {
      to.clear();
      return std::string();
    }
    std::string error = ScalarError(node, right);
    if (!error.empty()) return error;
    const auto letter = [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    };
    const auto fits = [&](char c) { return letter(c) || (c >= '0' && c <= '9'); };
    const std::string& text = node.text;
    if (text.empty() || !letter(text[0]) || !std::ranges::all_of(text, fits)) {
      return Wrong(Quoted(text) + " cannot be a Lua function", right);
    }
    to = text;
    return std::string();
  };
}

std::string ReadChoice(const TreeNode& node, const std::vector<std::string>& names,
                       std::size_t& index) {
  const std::string right = Joined(names, " or ");
  std::string error = ScalarError(node, right);
  if (!error.empty()) return error;
  const auto name = std::ranges::find(names, node.text);
  if (name == names.end()) return Wrong(Quoted(node.text) + " is not a choice", right);
  index = static_cast<std::size_t>(name - names.begin());
  return {};
}

std::string Nearest(std::string name, const std::vector<std::string>& names) {
  for (char& c : name) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  std::string best;
  std::size_t best_distance = SIZE_MAX;
  for (const std::string& candidate : names) {
    const std::size_t allowed = std::min<std::size_t>((candidate.size() + 2) / 3, 3);
    if (name.size() > candidate.size() + allowed) continue;
    const std::size_t distance = EditDistance(name, candidate);
    if (distance > allowed || distance >= best_distance) continue;
    best = candidate;
    best_distance = distance;
  }
  return best;
}

std::string Joined(const std::vector<std::string>& words, std::string_view last) {
  std::string out;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i > 0) out += i + 1 == words.size() ? last : ", ";
    out += words[i];
  }
  return out;
}

}  // namespace evrelay
