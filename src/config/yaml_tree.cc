#include "config/yaml_tree.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <deque>
#include <sstream>
#include <unordered_map>

#include "config/check.h"

namespace evrelay {
namespace {

constexpr std::size_t kMaxDepth = 16;

Place PlaceOf(const YAML::Mark& mark) {
  return mark.is_null() ? Place{} : Place{mark.line + 1, mark.column + 1};
}

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
  if (text.size() > kMaxYamlBytes) throw Failure{{}, "larger than 1 MiB; this is no configuration"};
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

// Builds the tree of the first document from the parser's events. Throws Failure.
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
    if (++count_ > kMaxYamlNodes) {
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

}  // namespace

std::string KindName(const TreeNode& node) {
  switch (node.kind) {
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

void ReadYamlTree(std::string_view text, Errors& errors,
                  const std::function<void(const TreeNode& root)>& read) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);  // a byte order mark
  CheckText(text);
  TreeBuilder tree(text, errors);
  // The parser loses its place at the end of an unfinished last line.
  std::istringstream stream(std::string(text) + (text.ends_with('\n') ? "" : "\n"));
  try {
    YAML::Parser parser(stream);
    parser.HandleNextDocument(tree);
    if (tree.root() != nullptr) read(*tree.root());
    parser.HandleNextDocument(tree);
  } catch (const YAML::Exception& exception) {
    throw SyntaxFailure(exception, text, tree.innermost());
  }
}

}  // namespace evrelay
