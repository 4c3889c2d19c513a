#include "config/load_yaml.h"

#include <grp.h>
#include <pwd.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <deque>
#include <functional>
#include <initializer_list>
#include <memory>
#include <sstream>
#include <string_view>
#include <system_error>
#include <unordered_map>
#include <utility>

#include "config/check.h"

namespace evrelay {
namespace {

using std::chrono::milliseconds;

constexpr std::size_t kMaxBytes = kMiB;
constexpr std::size_t kMaxNodes = 20'000;
constexpr std::size_t kMaxDepth = 16;
constexpr std::size_t kMaxErrors = 100;
constexpr std::uint64_t kGiB = 1024 * kMiB;

// Where something stands in the file; counts from 1. Line 0: the file as a whole.
struct Place {
  int line = 0;
  int column = 0;
};

Place PlaceOf(const YAML::Mark& mark) {
  return mark.is_null() ? Place{} : Place{mark.line + 1, mark.column + 1};
}

// Ends the reading of this file.
struct Failure {
  Place at;
  std::string text;
};

class Errors {
 public:
  void Add(Place at, std::string text) { list_.push_back({at, std::move(text)}); }
  std::size_t size() const { return list_.size(); }

  std::vector<std::string> Lines(const std::string& name) {
    std::ranges::stable_sort(list_, [](const Failure& a, const Failure& b) {
      return std::pair(a.at.line, a.at.column) < std::pair(b.at.line, b.at.column);
    });
    std::vector<std::string> lines;
    for (const Failure& error : list_) {
      if (lines.size() == kMaxErrors) {
        lines.push_back(name + ": " + std::to_string(list_.size() - kMaxErrors) +
                        " more errors are not shown");
        break;
      }
      std::string line = name + ":";
      if (error.at.line > 0) {
        line += std::to_string(error.at.line) + ":" + std::to_string(error.at.column) + ":";
      }
      lines.push_back(line + " " + error.text);
    }
    return lines;
  }

 private:
  std::vector<Failure> list_;
};

// The bytes of the UTF-8 character at the start of `text`; 0: none stands there.
std::size_t Utf8Size(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  const std::size_t size = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < size) return 0;
  for (std::size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  const bool overlong = (first == 0xe0 && byte(1) < 0xa0) || (first == 0xf0 && byte(1) < 0x90);
  const bool surrogate = first == 0xed && byte(1) > 0x9f;
  const bool too_large = first == 0xf4 && byte(1) > 0x8f;
  return overlong || surrogate || too_large ? 0 : size;
}

std::string HexByte(char c) {
  static constexpr char kHex[] = "0123456789abcdef";
  const auto byte = static_cast<unsigned char>(c);
  return {'0', 'x', kHex[byte >> 4], kHex[byte & 15]};
}

// What the parser would take silently or explain badly. Throws Failure.
void CheckText(std::string_view text) {
  if (text.size() > kMaxBytes) throw Failure{{}, "larger than 1 MiB; this is no configuration"};
  Place at{1, 1};
  bool indentation = true;
  for (std::size_t i = 0; i < text.size();) {
    const char c = text[i];
    const std::size_t size = Utf8Size(text.substr(i));
    if (size == 0) {
      throw Failure{at, "byte " + HexByte(c) + " is not UTF-8; save the file as UTF-8"};
    }
    if (c == '\t' && indentation) {
      throw Failure{at, "a tab in the indentation; YAML indents with spaces only"};
    }
    const bool line_end = c == '\n' || (c == '\r' && text.substr(i, 2) == "\r\n");
    if ((static_cast<unsigned char>(c) < 0x20 && c != '\t' && !line_end) || c == 0x7f) {
      throw Failure{at, "control byte " + HexByte(c) + "; a configuration is plain text"};
    }
    indentation = c == '\n' || (indentation && c == ' ');
    at = c == '\n' ? Place{at.line + 1, 1} : Place{at.line, at.column + static_cast<int>(size)};
    i += size;
  }
}

struct TreeNode {
  enum class Kind { kNull, kScalar, kList, kMap };

  Kind kind = Kind::kNull;
  Place at;
  bool quoted = false;
  std::string text;
  std::vector<const TreeNode*> items;  // of a list; of a map: key, value, key, value, ...
};

std::string_view KindName(TreeNode::Kind kind) {
  switch (kind) {
    case TreeNode::Kind::kNull:
      return "nothing";
    case TreeNode::Kind::kScalar:
      return "a single value";
    case TreeNode::Kind::kList:
      return "a list";
    case TreeNode::Kind::kMap:
      return "a map";
  }
  return "";
}

// Builds the tree of the first document from the parser's events. Aliases become second pointers
// to the same node, so the tree may have cycles; only its walker follows them. Throws Failure.
class TreeBuilder final : public YAML::EventHandler {
 public:
  TreeBuilder(std::string_view text, Errors& errors) : text_(text), errors_(errors) {}

  // The list or map that is not complete yet; null: there is none.
  const TreeNode* innermost() const { return open_.empty() ? nullptr : open_.back(); }

  // Null: the file has no document, or an empty one.
  const TreeNode* root() const { return root_; }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (documents_++ == 0) return;
    if (text_.substr(static_cast<std::size_t>(mark.pos), 3) == "---") {
      throw Failure{PlaceOf(mark), "a second document; only one is read, remove this \"---\""};
    }
    throw Failure{PlaceOf(mark), "text after the end of the document; check the indentation"};
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    TreeNode& node = Add(mark, anchor);
    // The parser reports the next token's place, which can be lines away.
    if (!open_.empty()) node.at = LastPlace(*open_.back());
    Attach(&node);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Count(mark);
    Attach(anchors_.at(anchor));
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    TreeNode& node = Add(mark, anchor);
    CheckTag(mark, tag);
    node.kind = TreeNode::Kind::kScalar;
    node.text = value;
    node.quoted = tag == "!";
    if (node.quoted) CheckClosingQuote(mark);
    Attach(&node);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Open(mark, tag, anchor, TreeNode::Kind::kList);
  }
  void OnSequenceEnd() override { open_.pop_back(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    Open(mark, tag, anchor, TreeNode::Kind::kMap);
  }
  void OnMapEnd() override { open_.pop_back(); }

 private:
  void Count(const YAML::Mark& mark) {
    if (++count_ > kMaxNodes) {
      throw Failure{PlaceOf(mark), "more than 20000 values; this is no configuration"};
    }
  }

  TreeNode& Add(const YAML::Mark& mark, YAML::anchor_t anchor) {
    Count(mark);
    TreeNode& node = nodes_.emplace_back();
    node.at = PlaceOf(mark);
    if (anchor != 0) anchors_[anchor] = &node;
    return node;
  }

  void Attach(const TreeNode* node) {
    if (open_.empty()) {
      root_ = node;
    } else {
      open_.back()->items.push_back(node);
    }
  }

  void Open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
            TreeNode::Kind kind) {
    TreeNode& node = Add(mark, anchor);
    CheckTag(mark, tag);
    node.kind = kind;
    Attach(&node);
    open_.push_back(&node);
    if (open_.size() > kMaxDepth) {
      throw Failure{node.at, "more than 16 levels deep; this is no configuration"};
    }
  }

  // The key in front of a map's missing value; else the collection itself.
  static Place LastPlace(const TreeNode& parent) {
    const bool value = parent.kind == TreeNode::Kind::kMap && parent.items.size() % 2 == 1;
    return value ? parent.items.back()->at : parent.at;
  }

  void CheckTag(const YAML::Mark& mark, const std::string& tag) {
    if (tag.empty() || tag == "?" || tag == "!") return;
    errors_.Add(PlaceOf(mark), "tag " + Quoted(tag) + " has no meaning here; remove it");
  }

  // The parser takes the end of the file for a missing closing quote.
  void CheckClosingQuote(const YAML::Mark& mark) {
    const std::size_t start = text_.find_first_of("\"'|>", static_cast<std::size_t>(mark.pos));
    if (start == std::string_view::npos) return;
    const char quote = text_[start];
    if (quote != '"' && quote != '\'') return;
    for (std::size_t i = start + 1; i < text_.size(); ++i) {
      if (quote == '"' && text_[i] == '\\') {
        ++i;
      } else if (text_[i] == quote) {
        if (quote == '"' || text_.substr(i + 1, 1) != "'") return;
        ++i;  // '' stands for one quote
      }
    }
    throw Failure{PlaceOf(mark), std::string("this quote is never closed; add a ") + quote};
  }

  const std::string_view text_;
  Errors& errors_;
  std::deque<TreeNode> nodes_;
  std::unordered_map<YAML::anchor_t, const TreeNode*> anchors_;
  std::vector<TreeNode*> open_;
  const TreeNode* root_ = nullptr;
  std::size_t count_ = 0;
  int documents_ = 0;
};

Failure SyntaxFailure(const YAML::Exception& exception, std::string_view text,
                      const TreeNode* innermost) {
  if (innermost != nullptr && exception.msg.ends_with("flow not found")) {
    return {innermost->at, "this bracket is never closed; add its partner"};
  }
  const auto pos = static_cast<std::size_t>(std::max(exception.mark.pos, 0));
  std::string hint = "check the indentation, quotes, and the space after each colon";
  if (pos > 0 && pos < text.size() && text.substr(pos - 1, 2) == "]:") {
    hint = R"(an IPv6 address needs quotes: "[::1]:8448")";
  }
  return {PlaceOf(exception.mark), "not YAML, " + exception.msg + "; " + hint};
}

// What a number stands for by its unit. The first entry is the one for 1.
struct Unit {
  std::string_view name;
  std::uint64_t factor;
};
constexpr Unit kSizeUnits[] = {{"", 1}, {"KiB", kKiB}, {"MiB", kMiB}, {"GiB", kGiB}};
constexpr Unit kTimeUnits[] = {{"ms", 1}, {"s", 1'000}, {"min", 60'000}};

// A whole decimal number without sign and leading zeros; one past 64 bits is read as the largest.
std::optional<std::uint64_t> ParseDigits(std::string_view text) {
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  if (text.empty() || !std::ranges::all_of(text, digit)) return {};
  if (text.size() > 1 && text[0] == '0') return {};
  std::uint64_t value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  return result.ec == std::errc() ? value : UINT64_MAX;
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

std::string Joined(const std::vector<std::string>& words, std::string_view last) {
  std::string out;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i > 0) out += i + 1 == words.size() ? last : ", ";
    out += words[i];
  }
  return out;
}

// Numeric id, or the name of a user or group in the system's database.
enum class IdKind { kUser, kGroup };

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

// Walks the tree along the keys that exist and fills a Config.
class Reader {
 public:
  Reader(Config& config, Errors& errors) : config_(config), errors_(errors) {
    keys_ = {
        {"bind_addr", [this](const Value& v) { ReadBindAddr(v); }},
        {"max_clients", Number(config.max_clients, 1'000'000)},
        {"netstring_format", Bool(config.netstring_format)},
        {"bad_frame",
         Choice(config.bad_frame, {{"close", BadFrame::kClose}, {"discard", BadFrame::kDiscard}})},
        {"max_message", Size(config.max_message, 1, kGiB)},
        {"max_event", Size(config.max_event, 1, kGiB)},
        {"send_buffer", [this](const Value& v) { ReadSendBuffer(v); }},
        {"producer",
         {},
         {
             {"socket", SocketPath(config.producer.socket)},
             {"mode", Mode(config.producer.mode)},
             {"user", OwnerId(config.producer.user, IdKind::kUser)},
             {"group", OwnerId(config.producer.group, IdKind::kGroup)},
             {"max_connections", Number(config.producer.max_connections, 1'000'000)},
             {"allow", [this](const Value& v) { ReadAllow(v); }},
         }},
        {"control",
         {},
         {
             {"socket", SocketPath(config.control.socket)},
             {"mode", Mode(config.control.mode)},
         }},
        {"slow_subscriber",
         {},
         {
             {"max_lag", Size(config.slow_subscriber.max_lag, 4 * kKiB, 1024 * kGiB)},
             {"policy",
              Choice(config.slow_subscriber.policy, {{"disconnect", SlowPolicy::kDisconnect},
                                                     {"skip", SlowPolicy::kSkip},
                                                     {"block", SlowPolicy::kBlock}})},
             {"stall_timeout", Time(config.slow_subscriber.stall_timeout, milliseconds(1))},
         }},
        {"log",
         {},
         {
             {"level", Choice(config.log.level, {{"debug", LogLevel::kDebug},
                                                 {"info", LogLevel::kInfo},
                                                 {"warn", LogLevel::kWarn},
                                                 {"error", LogLevel::kError}})},
             {"target", [this](const Value& v) { ReadLogTarget(v); }},
         }},
        {"drain", Time(config.drain, milliseconds(0))},
    };
  }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  // Throws Failure when aliases make more of the file than it may be.
  void Read(const TreeNode& root) {
    if (root.kind == TreeNode::Kind::kMap) {
      ReadMap(root, "", keys_);
    } else if (root.kind != TreeNode::Kind::kNull) {
      errors_.Add(root.at, "the file is " + std::string(KindName(root.kind)) +
                               "; give keys with values, such as max_clients: 1024");
    }
  }

 private:
  // A value and the key it was given for, with the sections around it: "producer.mode".
  struct Value {
    const TreeNode& node;
    const std::string& key;
  };
  using ReadValue = std::function<void(const Value&)>;

  // Either `read` or `section` is set.
  struct Key {
    std::string_view name;
    ReadValue read;
    std::vector<Key> section = {};
  };

  void Wrong(const Value& v, const std::string& what, const std::string& right) {
    errors_.Add(v.node.at, v.key + ": " + what + "; give " + right);
  }

  void Visit(const TreeNode& node) {
    if (++visited_ > kMaxNodes) {
      throw Failure{node.at, "more than 20000 values, aliases followed; this is no configuration"};
    }
  }

  void ReadMap(const TreeNode& map, const std::string& prefix, const std::vector<Key>& keys) {
    std::vector<Place> first(keys.size());
    for (std::size_t i = 0; i + 1 < map.items.size(); i += 2) {
      const TreeNode& name = *map.items[i];
      Visit(name);
      if (name.kind != TreeNode::Kind::kScalar) {
        errors_.Add(name.at, std::string(KindName(name.kind)) +
                                 " stands where a key belongs; give " + "a name and a colon");
        continue;
      }
      const auto key = std::ranges::find(keys, name.text, &Key::name);
      if (key == keys.end()) {
        errors_.Add(name.at, UnknownKey(name.text, prefix, keys));
        continue;
      }
      Place& seen = first[static_cast<std::size_t>(key - keys.begin())];
      const std::string path = prefix + name.text;
      if (seen.line > 0) {
        errors_.Add(name.at, path + " was given on line " + std::to_string(seen.line) +
                                 " already; give it once");
        continue;
      }
      seen = name.at;
      ReadKey(*key, {*map.items[i + 1], path});
    }
  }

  void ReadKey(const Key& key, const Value& v) {
    Visit(v.node);
    if (key.section.empty()) {
      key.read(v);
    } else if (v.node.kind == TreeNode::Kind::kMap) {
      ReadMap(v.node, v.key + ".", key.section);
    } else if (v.node.kind != TreeNode::Kind::kNull) {  // all its keys may be commented out
      Wrong(v, Found(v.node), "a map with keys such as " + std::string(key.section[0].name));
    }
  }

  std::string UnknownKey(const std::string& name, const std::string& prefix,
                         const std::vector<Key>& keys) const {
    std::string text = "unknown key " + Quoted(prefix + name) + "; ";
    const std::size_t colon = name.find(':');
    if (std::ranges::find(keys, name.substr(0, colon), &Key::name) != keys.end()) {
      return text + "put a space after the colon: " + Quoted(name.substr(0, colon + 1) + " ...");
    }
    const std::string near = Nearest(name, keys);
    if (!near.empty()) return text + "did you mean " + Quoted(prefix + near) + "?";
    std::vector<std::string> elsewhere;
    for (const Key& key : keys_) {
      if (std::ranges::count(prefix, '.') > 1) break;  // a rule's keys stand nowhere else
      if (key.name == name) elsewhere.emplace_back(name + " (without indentation)");
      for (const Key& inner : key.section) {
        if (inner.name == name) elsewhere.push_back(std::string(key.name) + "." + name);
      }
    }
    if (!elsewhere.empty()) return text + "did you mean " + Joined(elsewhere, " or ") + "?";
    std::vector<std::string> known;
    known.reserve(keys.size());
    for (const Key& key : keys) known.emplace_back(key.name);
    return text + "known here: " + Joined(known, ", ");
  }

  static std::string Nearest(std::string name, const std::vector<Key>& keys) {
    for (char& c : name) {
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    }
    std::string_view best;
    std::size_t best_distance = SIZE_MAX;
    for (const Key& key : keys) {
      const std::size_t allowed = std::min<std::size_t>((key.name.size() + 2) / 3, 3);
      if (name.size() > key.name.size() + allowed) continue;
      const std::size_t distance = EditDistance(name, key.name);
      if (distance > allowed || distance >= best_distance) continue;
      best = key.name;
      best_distance = distance;
    }
    return std::string(best);
  }

  static std::string Found(const TreeNode& node) {
    if (node.kind == TreeNode::Kind::kScalar) return Quoted(node.text) + " is a single value";
    if (node.kind == TreeNode::Kind::kNull) return "no value";
    return "found " + std::string(KindName(node.kind));
  }

  // The text of a single value; null, with an error noted, when it is none.
  const std::string* Scalar(const Value& v, const std::string& right) {
    if (v.node.kind != TreeNode::Kind::kScalar) {
      Wrong(v, Found(v.node), right);
      return nullptr;
    }
    const auto control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
    if (std::ranges::any_of(v.node.text, control)) {
      Wrong(v, Quoted(v.node.text) + " has a control character in it", right);
      return nullptr;
    }
    return &v.node.text;
  }

  // The same for what YAML itself tells apart from text.
  const std::string* PlainScalar(const Value& v, const std::string& right) {
    const std::string* text = Scalar(v, right);
    if (text == nullptr || !v.node.quoted) return text;
    Wrong(v, Quoted(*text) + " is text, as it is in quotes", right + ", without quotes");
    return nullptr;
  }

  template <class T>
  ReadValue Number(T& to, std::uint64_t max) {
    return [this, &to, max](const Value& v) {
      const std::string right = "a whole number from 1 to " + std::to_string(max);
      const std::string* text = PlainScalar(v, right);
      if (text == nullptr) return;
      const std::optional<std::uint64_t> value = ParseDigits(*text);
      if (!value) return Wrong(v, Quoted(*text) + " is not a whole number", right);
      if (*value < 1 || *value > max) return Wrong(v, Quoted(*text) + " is out of range", right);
      to = static_cast<T>(*value);
    };
  }

  ReadValue Bool(bool& to) {
    return [this, &to](const Value& v) {
      const std::string right = "true or false";
      const std::string* text = PlainScalar(v, right);
      if (text == nullptr) return;
      if (*text != "true" && *text != "false") {
        return Wrong(v, Quoted(*text) + " is neither true nor false", right);
      }
      to = *text == "true";
    };
  }

  template <class T>
  ReadValue Choice(T& to, std::initializer_list<std::pair<std::string_view, T>> list) {
    return [this, &to, choices = std::vector(list)](const Value& v) {
      std::vector<std::string> names;
      names.reserve(choices.size());
      for (const auto& choice : choices) names.emplace_back(choice.first);
      const std::string right = Joined(names, " or ");
      const std::string* text = Scalar(v, right);
      if (text == nullptr) return;
      for (const auto& [name, value] : choices) {
        if (*text != name) continue;
        to = value;
        return;
      }
      Wrong(v, Quoted(*text) + " is not a choice", right);
    };
  }

  // A number with a unit; nullopt, with an error noted, when it is none or out of range.
  template <std::size_t kUnits>
  std::optional<std::uint64_t> Quantity(const Value& v, const Unit (&units)[kUnits],
                                        std::uint64_t min, std::uint64_t max,
                                        const std::string& right) {
    const std::string* text = Scalar(v, right);
    if (text == nullptr) return {};
    const std::size_t split = std::min(text->find_first_not_of("0123456789"), text->size());
    const std::string unit_name = text->substr(split);
    const std::optional<std::uint64_t> number = ParseDigits(text->substr(0, split));
    if (!number) {
      Wrong(v, Quoted(*text) + " does not start with a whole number", right);
      return {};
    }
    const auto unit = std::ranges::find(units, unit_name, &Unit::name);
    if (unit == std::end(units)) {
      Wrong(v,
            Quoted(*text) +
                (unit_name.empty() ? " has no unit" : " has an unknown unit, " + Quoted(unit_name)),
            right);
      return {};
    }
    if (*number > max / unit->factor || *number * unit->factor < min) {
      Wrong(v, Quoted(*text) + " is out of range", right);
      return {};
    }
    return *number * unit->factor;
  }

  // In the largest unit that fits.
  template <std::size_t kUnits>
  static std::string Written(std::uint64_t value, const Unit (&units)[kUnits]) {
    const Unit* best = &units[0];
    for (const Unit& unit : units) {
      if (value >= unit.factor && value % unit.factor == 0) best = &unit;
    }
    return std::to_string(value / best->factor) + std::string(best->name);
  }

  static std::string SizeText(std::uint64_t min, std::uint64_t max) {
    return "a size from " + Written(min, kSizeUnits) + " to " + Written(max, kSizeUnits) +
           ", in bytes or in KiB, MiB or GiB, such as 64KiB";
  }

  template <class T>
  ReadValue Size(T& to, std::uint64_t min, std::uint64_t max) {
    return [this, &to, min, max](const Value& v) {
      const auto bytes = Quantity(v, kSizeUnits, min, max, SizeText(min, max));
      if (bytes) to = static_cast<T>(*bytes);
    };
  }

  ReadValue Time(milliseconds& to, milliseconds min) {
    return [this, &to, min](const Value& v) {
      constexpr std::uint64_t kMax = 3'600'000;
      const auto least = static_cast<std::uint64_t>(min.count());
      const auto time = Quantity(
          v, kTimeUnits, least, kMax,
          "a time from " + Written(least, kTimeUnits) + " to 60min, in ms, s or min, such as 10s");
      if (time) to = milliseconds(*time);
    };
  }

  ReadValue Mode(mode_t& to) {
    return [this, &to](const Value& v) {
      const std::string right = R"(octal digits in quotes from "0000" to "0777", such as "0660")";
      const std::string* text = Scalar(v, right);
      if (text == nullptr) return;
      unsigned mode = 0;
      const char* end = text->data() + text->size();
      const auto result = std::from_chars(text->data(), end, mode, 8);
      const bool octal = result.ec == std::errc() && result.ptr == end;
      if (!octal || text->size() < 3 || text->size() > 5) {
        return Wrong(v, Quoted(*text) + " is not a file mode", right);
      }
      if (!v.node.quoted) {
        return Wrong(v, *text + " is not in quotes, so YAML may take it for another number", right);
      }
      if (mode > 0777) return Wrong(v, Quoted(*text) + " is out of range", right);
      to = static_cast<mode_t>(mode);
    };
  }

  ReadValue SocketPath(std::string& to) {
    return [this, &to](const Value& v) {
      const std::string* text = Scalar(v, "the absolute path of a Unix socket");
      if (text == nullptr) return;
      const std::string error = SocketPathError(*text);
      if (!error.empty()) return errors_.Add(v.node.at, v.key + ": " + error);
      to = *text;
    };
  }

  void ReadId(const Value& v, IdKind kind, std::optional<uid_t>& to) {
    const std::string what = kind == IdKind::kUser ? "user" : "group";
    const std::string right =
        "the name of a " + what + " of this system, or a number up to 4294967294";
    const std::string* text = Scalar(v, right);
    if (text == nullptr) return;
    if (const std::optional<std::uint64_t> number = ParseDigits(*text)) {
      constexpr std::uint64_t kMaxId = 0xffff'fffe;  // the next one means "none" to the kernel
      if (*number > kMaxId) return Wrong(v, Quoted(*text) + " is out of range", right);
      to = static_cast<uid_t>(*number);
      return;
    }
    to = FindId(*text, kind);
    if (!to) Wrong(v, "there is no " + what + " " + Quoted(*text), right);
  }

  // Nothing means none here, as in the default file.
  ReadValue OwnerId(std::optional<uid_t>& to, IdKind kind) {
    return [this, &to, kind](const Value& v) {
      if (v.node.kind != TreeNode::Kind::kNull) ReadId(v, kind, to);
    };
  }

  void ReadBindAddr(const Value& v) {
    const std::string right =
        R"(HOST:PORT, "[IPV6]:PORT" (with the quotes), unix:/path, or a list of these)";
    std::vector<const TreeNode*> entries{&v.node};
    if (v.node.kind == TreeNode::Kind::kList) {
      entries = v.node.items;
      if (entries.empty()) return Wrong(v, "an empty list", right);
    }
    std::vector<std::string> addresses;
    for (const TreeNode* entry : entries) {
      Visit(*entry);
      const Value value{*entry, v.key};
      const std::string* text = Scalar(value, right);
      if (text == nullptr) continue;
      std::string error = BindAddressError(*text);
      if (error.empty() && std::ranges::find(addresses, *text) != addresses.end()) {
        error = Quoted(*text) + " is given twice; give it once";
      }
      if (!error.empty()) errors_.Add(entry->at, v.key + ": " + error);
      addresses.push_back(*text);
    }
    config_.bind_addr = std::move(addresses);
  }

  void ReadSendBuffer(const Value& v) {
    if (v.node.kind == TreeNode::Kind::kScalar && v.node.text == "auto") {
      config_.send_buffer.reset();
      return;
    }
    const auto bytes =
        Quantity(v, kSizeUnits, 4 * kKiB, kGiB, "auto, or " + SizeText(4 * kKiB, kGiB));
    if (bytes) config_.send_buffer = static_cast<std::uint32_t>(*bytes);
  }

  void ReadLogTarget(const Value& v) {
    const std::string right = "stderr, syslog, journald or the absolute path of a file";
    const std::string* text = Scalar(v, right);
    if (text == nullptr) return;
    const bool path = text->starts_with('/') && !text->ends_with('/');
    if (!path && *text != "stderr" && *text != "syslog" && *text != "journald") {
      return Wrong(v, Quoted(*text) + " is not a log target", right);
    }
    config_.log.target = *text;
  }

  void ReadAllow(const Value& v) {
    if (v.node.kind != TreeNode::Kind::kList) {
      return Wrong(v, Found(v.node), "a list of rules such as [{uid: root}], or [] for everyone");
    }
    for (const TreeNode* entry : v.node.items) ReadRule({*entry, v.key});
  }

  void ReadRule(const Value& v) {
    Visit(v.node);
    if (v.node.kind != TreeNode::Kind::kMap) {
      return Wrong(v, Found(v.node), "a rule such as {uid: root, verbs: [relay]}");
    }
    const std::size_t errors_before = errors_.size();
    AllowRule rule;
    ReadMap(v.node, v.key + ".",
            {{"uid", [&](const Value& id) { ReadId(id, IdKind::kUser, rule.uid); }},
             {"gid", [&](const Value& id) { ReadId(id, IdKind::kGroup, rule.gid); }},
             {"verbs", [&](const Value& verbs) { ReadVerbs(verbs, rule.verbs); }}});
    if (!rule.uid && !rule.gid && errors_.size() == errors_before) {
      Wrong(v, "a rule that names nobody", "it a uid or a gid");
    }
    config_.producer.allow.push_back(std::move(rule));
  }

  void ReadVerbs(const Value& v, std::vector<std::string>& to) {
    const std::string right = "a list of relay and ping";
    if (v.node.kind != TreeNode::Kind::kList) return Wrong(v, Found(v.node), right);
    // An empty list reads like "nothing allowed"; to the rule it would mean everything.
    if (v.node.items.empty())
      return Wrong(v, "an empty list", right + ", or leave verbs out for all");
    for (const TreeNode* entry : v.node.items) {
      Visit(*entry);
      const Value value{*entry, v.key};
      const std::string* text = Scalar(value, right);
      if (text == nullptr) continue;
      if (*text != "relay" && *text != "ping") {
        Wrong(value, Quoted(*text) + " is not a verb", right);
      } else if (std::ranges::find(to, *text) != to.end()) {
        Wrong(value, Quoted(*text) + " is given twice", "it once");
      } else {
        to.push_back(*text);
      }
    }
  }

  Config& config_;
  Errors& errors_;
  std::vector<Key> keys_;
  std::size_t visited_ = 0;
};

// Throws Failure.
void ReadDocument(std::string_view text, Config& config, Errors& errors) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);  // a byte order mark
  CheckText(text);
  TreeBuilder tree(text, errors);
  // The parser loses its place at the end of an unfinished last line.
  std::istringstream stream(std::string(text) + (text.ends_with('\n') ? "" : "\n"));
  try {
    YAML::Parser parser(stream);
    parser.HandleNextDocument(tree);
    if (tree.root() != nullptr) Reader(config, errors).Read(*tree.root());
    parser.HandleNextDocument(tree);
  } catch (const YAML::Exception& exception) {
    throw SyntaxFailure(exception, text, tree.innermost());
  }
}

}  // namespace

LoadedConfig ParseYaml(std::string_view text, const std::string& name) {
  LoadedConfig loaded;
  Errors errors;
  try {
    ReadDocument(text, loaded.config, errors);
  } catch (Failure& failure) {
    errors.Add(failure.at, std::move(failure.text));
  }
  loaded.errors = errors.Lines(name);
  return loaded;
}

LoadedConfig LoadYaml(const std::string& path) {
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  const auto unreadable = [&] {
    const std::string why = std::generic_category().message(errno);
    return LoadedConfig{{}, {path + ": " + why + "; give a file that can be read"}};
  };
  const std::unique_ptr<std::FILE, Close> file(std::fopen(path.c_str(), "re"));
  if (!file) return unreadable();
  std::string text(kMaxBytes + 1, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  if (std::ferror(file.get()) != 0) return unreadable();
  return ParseYaml(text, path);
}

}  // namespace evrelay
