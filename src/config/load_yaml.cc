#include "config/load_yaml.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <system_error>
#include <utility>

#include "config/check.h"
#include "config/errors.h"
#include "config/values.h"
#include "config/yaml_tree.h"
#include "metrics/reasons.h"

namespace evrelay {
namespace {

using std::chrono::milliseconds;

// One of `read` and `section` is set.
struct Key {
  std::string name;
  ReadValue read;
  std::vector<Key> section = {};
};

Key Section(std::string name, std::vector<Key> keys) {
  return {std::move(name), {}, std::move(keys)};
}

std::vector<std::string> Names(const std::vector<Key>& keys) {
  std::vector<std::string> names;
  names.reserve(keys.size());
  for (const Key& key : keys) names.push_back(key.name);
  return names;
}

constexpr char kAddresses[] =
    R"(HOST:PORT, "[IPV6]:PORT" (with the quotes), unix:/path, a map {addr: ...}, or a list of these)";
constexpr char kAddress[] = R"(HOST:PORT, "[IPV6]:PORT" (with the quotes) or unix:/path)";

// Reads the address of a listener that is not among `others`.
std::string ReadAddress(const TreeNode& node, const char* right,
                        const std::vector<ListenConfig>& others, std::string& to) {
  std::string error = ScalarError(node, right);
  if (error.empty()) error = BindAddressError(node.text);
  if (!error.empty()) return error;
  if (std::ranges::find(others, node.text, &ListenConfig::addr) != others.end()) {
    return Quoted(node.text) + " is given twice; give it once";
  }
  to = node.text;
  return {};
}

std::string Verbs() {
  return "a list of " + Joined({kVerbNames.begin(), kVerbNames.end()}, " and ");
}

// Adds one verb to `to`.
std::string ReadVerb(const TreeNode& node, std::vector<std::string>& to) {
  std::string error = ScalarError(node, Verbs());
  if (!error.empty()) return error;
  if (std::ranges::find(kVerbNames, node.text) == kVerbNames.end()) {
    return Quoted(node.text) + " is not a verb; give " + Verbs();
  }
  if (std::ranges::find(to, node.text) != to.end()) {
    return Quoted(node.text) + " is given twice; give it once";
  }
  to.push_back(node.text);
  return {};
}

// Walks the tree along the keys that exist and fills a Config. Keys in errors are written with the
// sections around them: "producer.mode".
class Reader {
 public:
  Reader(Config& config, Errors& errors) : errors_(errors), keys_(Keys(config)) {}
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  // Throws Failure when aliases make more of the file than it may be.
  void Read(const TreeNode& root) {
    if (root.kind == TreeNode::Kind::kMap) {
      ReadMap(root, "", keys_);
    } else if (root.kind != TreeNode::Kind::kNull) {
      errors_.Add(root.at, "the file is " + KindName(root) +
                               "; give keys with values, such as max_clients: 1024");
    }
  }

 private:
  std::vector<Key> Keys(Config& c) {
    return {
        {"bind_addr", [&](const TreeNode& node) { return ReadListeners(node, c.bind_addr); }},
        {"workers", NumberInto(c.workers, 0, kMaxWorkers)},
        {"max_clients", NumberInto(c.max_clients, 1, 1'000'000)},
        {"max_clients_per_ip", NumberInto(c.max_clients_per_ip, 0, 1'000'000)},
        {"accept_rate", NumberInto(c.accept_rate, 0, 1'000'000)},
        {"netstring_format", BoolInto(c.netstring_format)},
        {"bad_frame",
         ChoiceInto(c.bad_frame, {{"close", BadFrame::kClose}, {"discard", BadFrame::kDiscard}})},
        {"max_message", SizeInto(c.max_message, 1, kGiB)},
        {"max_event", SizeInto(c.max_event, 1, kGiB)},
        {"frame_timeout", TimeInto(c.frame_timeout, milliseconds(1))},
        {"send_buffer", SizeOrAutoInto(c.send_buffer, 4 * kKiB, kGiB)},
        {"script", FileInto(c.script)},
        {"event_callback", LuaNameInto(c.event_callback)},
        Section("hook",
                {
                    {"timeout", TimeInto(c.hook.timeout, milliseconds(1), std::chrono::minutes(1))},
                    {"memory", SizeInto(c.hook.memory, 256 * kKiB, kGiB)},
                    {"patterns", BoolInto(c.hook.patterns)},
                }),
        Section("producer",
                {
                    {"socket", SocketPathInto(c.producer.socket)},
                    {"mode", ModeInto(c.producer.mode)},
                    {"user", OwnerInto(c.producer.user, IdKind::kUser)},
                    {"group", OwnerInto(c.producer.group, IdKind::kGroup)},
                    {"max_connections", NumberInto(c.producer.max_connections, 1, 1'000'000)},
                    {"allow", [&](const TreeNode& n) { return ReadAllow(n, c.producer.allow); }},
                }),
        Section("control",
                {
                    {"socket", SocketPathInto(c.control.socket)},
                    {"mode", ModeInto(c.control.mode)},
                }),
        Section("slow_subscriber",
                {
                    {"max_lag", SizeInto(c.slow_subscriber.max_lag, 4 * kKiB, 1024 * kGiB)},
                    {"policy",
                     ChoiceInto(c.slow_subscriber.policy, {{"disconnect", SlowPolicy::kDisconnect},
                                                           {"skip", SlowPolicy::kSkip},
                                                           {"block", SlowPolicy::kBlock}})},
                    {"stall_timeout", TimeInto(c.slow_subscriber.stall_timeout, milliseconds(1))},
                }),
        Section("async",
                {
                    {"timeout", TimeInto(c.async.timeout, milliseconds(1), std::chrono::hours(1))},
                    {"max_suspended", NumberInto(c.async.max_suspended, 1, 1'000'000)},
                }),
        Section("log",
                {
                    {"level", ChoiceInto(c.log.level, {{"debug", LogLevel::kDebug},
                                                       {"info", LogLevel::kInfo},
                                                       {"warn", LogLevel::kWarn},
                                                       {"error", LogLevel::kError}})},
                    {"target", LogTargetInto(c.log.target)},
                }),
        {"drain", TimeInto(c.drain, milliseconds(0))},
    };
  }

  void Visit(const TreeNode& node) {
    if (++visited_ > kMaxYamlNodes) {
      throw Failure{node.at, "more than 20000 values, aliases followed; this is no configuration"};
    }
  }

  // `prefix` is that of the keys in the map: "producer.".
  void ReadMap(const TreeNode& map, const std::string& prefix, const std::vector<Key>& keys) {
    std::vector<Place> first(keys.size());
    for (std::size_t i = 0; i + 1 < map.items.size(); i += 2) {
      const TreeNode& name = *map.items[i];
      Visit(name);
      if (name.kind != TreeNode::Kind::kScalar) {
        errors_.Add(name.at,
                    KindName(name) + " stands where a key belongs; give a name and a colon");
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
      const TreeNode& value = *map.items[i + 1];
      if (key->section.empty()) {
        Read(value, path, key->read);
      } else {
        Read(value, path, [&](const TreeNode& node) { return ReadSection(node, path, *key); });
      }
    }
  }

  // A value, or an entry of a list.
  void Read(const TreeNode& node, const std::string& path, const ReadValue& read) {
    Visit(node);
    const std::string error = read(node);
    if (!error.empty()) errors_.Add(node.at, path + ": " + error);
  }

  std::string ReadSection(const TreeNode& node, const std::string& path, const Key& key) {
    if (node.kind == TreeNode::Kind::kMap) {
      ReadMap(node, path + ".", key.section);
    } else if (node.kind != TreeNode::Kind::kNull) {  // all its keys may be commented out
      return Found(node) + "; give a map with keys such as " + key.section[0].name;
    }
    return {};
  }

  std::string UnknownKey(const std::string& name, const std::string& prefix,
                         const std::vector<Key>& keys) const {
    const std::string text = "unknown key " + Quoted(prefix + name) + "; ";
    const std::size_t colon = name.find(':');
    if (std::ranges::find(keys, name.substr(0, colon), &Key::name) != keys.end()) {
      return text + "put a space after the colon: " + Quoted(name.substr(0, colon + 1) + " ...");
    }
    const std::string near = Nearest(name, Names(keys));
    if (!near.empty()) return text + "did you mean " + Quoted(prefix + near) + "?";
    std::vector<std::string> elsewhere;
    for (const Key& key : keys_) {
      if (std::ranges::count(prefix, '.') > 1) break;  // a rule's keys stand nowhere else
      if (key.name == name) elsewhere.push_back(name + " (without indentation)");
      for (const Key& inner : key.section) {
        if (inner.name == name) elsewhere.push_back(key.name + "." + name);
      }
    }
    if (!elsewhere.empty()) return text + "did you mean " + Joined(elsewhere, " or ") + "?";
    return text + "known here: " + Joined(Names(keys), ", ");
  }

  std::string ReadListeners(const TreeNode& node, std::vector<ListenConfig>& to) {
    to.clear();
    if (node.kind != TreeNode::Kind::kList) return ReadListener(node, kAddresses, to);
    if (node.items.empty()) return std::string("an empty list; give ") + kAddresses;
    for (const TreeNode* entry : node.items) {
      Read(*entry, "bind_addr", [&](const TreeNode& n) { return ReadListener(n, kAddresses, to); });
    }
    return {};
  }

  // Adds one listener to `to`: an address, or a map that says more.
  std::string ReadListener(const TreeNode& node, const char* right, std::vector<ListenConfig>& to) {
    ListenConfig listener;
    std::string error;
    // [::1]:8448 without quotes is a map as well, of a list.
    const bool map = node.kind == TreeNode::Kind::kMap &&
                     (node.items.empty() || node.items[0]->kind == TreeNode::Kind::kScalar);
    if (map) {
      const std::size_t errors_before = errors_.size();
      ReadMap(node, "bind_addr.",
              {
                  {"addr",
                   [&](const TreeNode& n) { return ReadAddress(n, kAddress, to, listener.addr); }},
                  {"allow", [&](const TreeNode& n) { return ReadNetworks(n, listener.allow); }},
                  {"tls", [&](const TreeNode& n) { return ReadTls(n, listener.tls); }},
              });
      if (errors_.size() > errors_before) return {};
      error = ListenerError(listener);
    } else {
      error = ReadAddress(node, right, to, listener.addr);
    }
    if (error.empty()) to.push_back(std::move(listener));
    return error;
  }

  std::string ReadNetworks(const TreeNode& node, std::vector<Network>& to) {
    if (node.kind != TreeNode::Kind::kList) {
      return Found(node) + "; give a list of networks such as [10.0.0.0/8], or leave it out";
    }
    // An empty list reads like "nobody"; it would mean everyone.
    if (node.items.empty()) {
      return "an empty list; give networks such as [10.0.0.0/8], or leave it out for everyone";
    }
    for (const TreeNode* entry : node.items) {
      Read(*entry, "bind_addr.allow", NetworkInto(to.emplace_back()));
    }
    return {};
  }

  // Nothing would read like "nobody"; it would mean everyone.
  std::string ReadClientCa(const TreeNode& node, std::string& to) {
    std::string error = FileInto(to)(node);
    if (error.empty() && to.empty()) {
      error =
          "no value; give the PEM file of who signs, or leave it out to ask for no certificates";
    }
    return error;
  }

  std::string ReadTls(const TreeNode& node, std::optional<TlsConfig>& to) {
    if (node.kind != TreeNode::Kind::kMap) {
      return Found(node) + "; give a map such as {cert: FILE, key: FILE}";
    }
    const std::size_t errors_before = errors_.size();
    TlsConfig& tls = to.emplace();
    ReadMap(node, "bind_addr.tls.",
            {
                {"cert", FileInto(tls.cert)},
                {"key", FileInto(tls.key)},
                {"client_ca", [&](const TreeNode& n) { return ReadClientCa(n, tls.client_ca); }},
                {"min", ChoiceInto(tls.min, {{"1.2", TlsVersion::k12}, {"1.3", TlsVersion::k13}})},
            });
    if (errors_.size() > errors_before) return {};
    if (tls.cert.empty()) return "no cert; give the PEM file of the certificate";
    if (tls.key.empty()) return "no key; give the PEM file of the certificate's private key";
    return {};
  }

  std::string ReadAllow(const TreeNode& node, std::vector<AllowRule>& to) {
    if (node.kind != TreeNode::Kind::kList) {
      return Found(node) + "; give a list of rules such as [{uid: root}], or [] for everyone";
    }
    for (const TreeNode* entry : node.items) {
      Read(*entry, "producer.allow", [&](const TreeNode& n) { return ReadRule(n, to); });
    }
    return {};
  }

  std::string ReadRule(const TreeNode& node, std::vector<AllowRule>& to) {
    if (node.kind != TreeNode::Kind::kMap) {
      return Found(node) + "; give a rule such as {uid: root, verbs: [relay]}";
    }
    const std::size_t errors_before = errors_.size();
    AllowRule& rule = to.emplace_back();
    ReadMap(node, "producer.allow.",
            {
                {"uid", IdInto(rule.uid, IdKind::kUser)},
                {"gid", IdInto(rule.gid, IdKind::kGroup)},
                {"verbs", [&](const TreeNode& n) { return ReadVerbs(n, rule.verbs); }},
            });
    if (rule.uid || rule.gid || errors_.size() > errors_before) return {};
    return "a rule that names nobody; give it a uid or a gid";
  }

  std::string ReadVerbs(const TreeNode& node, std::vector<std::string>& to) {
    if (node.kind != TreeNode::Kind::kList) return Found(node) + "; give " + Verbs();
    // An empty list reads like "nothing allowed"; to the rule it would mean everything.
    if (node.items.empty()) {
      return "an empty list; give " + Verbs() + ", or leave verbs out for all";
    }
    for (const TreeNode* entry : node.items) {
      Read(*entry, "producer.allow.verbs", [&](const TreeNode& n) { return ReadVerb(n, to); });
    }
    return {};
  }

  Errors& errors_;
  const std::vector<Key> keys_;
  std::size_t visited_ = 0;
};

}  // namespace

LoadedConfig ParseYaml(std::string_view text, const std::string& name) {
  LoadedConfig loaded;
  Errors errors;
  try {
    ReadYamlTree(text, errors,
                 [&](const TreeNode& root) { Reader(loaded.config, errors).Read(root); });
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
  std::string text(kMaxYamlBytes + 1, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  if (std::ferror(file.get()) != 0) return unreadable();
  return ParseYaml(text, path);
}

}  // namespace evrelay
