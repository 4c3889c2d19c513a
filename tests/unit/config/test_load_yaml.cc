// Good files, the limits on what is read, and the reading of files itself.

#include <chrono>
#include <fstream>
#include <string>
#include <vector>

#include "config/load_yaml.h"
#include "support/catch.h"
#include "support/temporary_directory.h"

namespace evrelay {
namespace {

std::vector<std::string> Addresses(const Config& config) {
  std::vector<std::string> out;
  for (const ListenConfig& listen : config.bind_addr) out.push_back(listen.addr);
  return out;
}

using namespace std::chrono_literals;

Config Good(const std::string& text) {
  LoadedConfig loaded = ParseYaml(text, "f.yaml");
  INFO(text);
  CHECK(loaded.errors == std::vector<std::string>{});
  return loaded.config;
}

std::string OneError(const std::string& text) {
  const LoadedConfig loaded = ParseYaml(text, "f.yaml");
  REQUIRE(loaded.errors.size() == 1);
  return loaded.errors[0];
}

void CheckDefaults(const Config& config) {
  CHECK(config.bind_addr == std::vector<ListenConfig>{{"127.0.0.1:8448", {}, {}}});
  CHECK(config.workers == 1);
  CHECK(config.max_clients == 1024);
  CHECK(config.max_clients_per_ip == 0);
  CHECK(config.accept_rate == 0);
  CHECK(config.frame_timeout == std::chrono::seconds(10));
  CHECK(config.netstring_format);
  CHECK(config.bad_frame == BadFrame::kClose);
  CHECK(config.max_message == 65'536);
  CHECK(config.max_event == 1'048'576);
  CHECK(!config.send_buffer);
  CHECK(config.script.empty());
  CHECK(config.event_callback.empty());
  CHECK(config.hook.timeout == 50ms);
  CHECK(config.hook.memory == 16'777'216);
  CHECK(config.hook.patterns);
  CHECK(config.producer.mode == 0660);
  CHECK(!config.producer.user);
  CHECK(!config.producer.group);
  CHECK(config.producer.max_connections == 256);
  CHECK(config.producer.allow.empty());
  CHECK(config.control.mode == 0600);
  CHECK(config.slow_subscriber.max_lag == 16'777'216);
  CHECK(config.slow_subscriber.policy == SlowPolicy::kDisconnect);
  CHECK(config.slow_subscriber.stall_timeout == 30s);
  CHECK(config.async.timeout == 30s);
  CHECK(config.async.max_suspended == 10'000);
  CHECK(config.log.level == LogLevel::kInfo);
  CHECK(config.log.target == "stderr");
  CHECK(config.drain == 10s);
}

TEST_CASE("an empty file means the defaults") {
  for (const std::string text : {"", "\n", "# nothing\n", "---\n", "...\n", "{}\n", "\xef\xbb\xbf",
                                 "---\n# nothing\n...\n", "~\n"}) {
    CheckDefaults(Good(text));
  }
}

TEST_CASE("a section with nothing in it means its defaults") {
  CheckDefaults(
      Good("producer:\n  # socket: /x\nlog: ~\ncontrol: {}\nslow_subscriber:\nasync:\nhook:\n"));
}

TEST_CASE("a script and a callback that are not named are none") {
  CheckDefaults(Good("script:\nevent_callback:\n"));
  CheckDefaults(Good("script: ~\nevent_callback: ~\n"));
  CHECK(Good("script: \"\"").script.empty());
  CHECK(Good("script: hooks/my hook.lua").script == "hooks/my hook.lua");
}

TEST_CASE("a listener may say more than its address") {
  const Config config = Good(R"(
bind_addr:
- 127.0.0.1:1
- {addr: 127.0.0.1:2}
- addr: "[::]:3"
  allow: [10.0.0.0/8, 192.0.2.128/25, 192.0.2.1, "2001:db8:8000::/33", "::1", 0.0.0.0/0]
  tls: {cert: /etc/cert.pem, key: key.pem, client_ca: ca.pem, min: "1.3"}
- {addr: "unix:/run/sub.sock", tls: {cert: a, key: b}}
)");
  REQUIRE(config.bind_addr.size() == 4);
  CHECK(config.bind_addr[0] == ListenConfig{"127.0.0.1:1", {}, {}});
  CHECK(config.bind_addr[1] == ListenConfig{"127.0.0.1:2", {}, {}});
  CHECK(config.bind_addr[2].addr == "[::]:3");
  CHECK(config.bind_addr[2].allow ==
        std::vector<Network>{{false, 8, {10}},
                             {false, 25, {192, 0, 2, 128}},
                             {false, 32, {192, 0, 2, 1}},
                             {true, 33, {0x20, 0x01, 0x0d, 0xb8, 0x80}},
                             {true, 128, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}},
                             {false, 0, {}}});
  CHECK(config.bind_addr[2].tls ==
        TlsConfig{"/etc/cert.pem", "key.pem", "ca.pem", TlsVersion::k13});
  CHECK(config.bind_addr[3].tls == TlsConfig{"a", "b", "", TlsVersion::k12});
}

TEST_CASE("0 workers are kept, for the daemon to speak of") {
  CHECK(Good("workers: 0").workers == 0);
  CHECK(Good("workers: 256").workers == 256);
}

TEST_CASE("every key is read") {
  const Config config = Good(R"(
bind_addr: ["0.0.0.0:1", "[::1]:2", "relay.example:65535", "unix:/run/evrelay/sub.sock",
            "[fe80::1%eth0]:3", "127.0.0.1:0"]
workers: 4
max_clients: 1000000
max_clients_per_ip: 16
accept_rate: 500
frame_timeout: 2s
netstring_format: false
bad_frame: discard
max_message: 1
max_event: 1GiB
send_buffer: 512KiB
script: hooks/evapi.lua
event_callback: _ksr_Event2
hook: {timeout: 1min, memory: 256KiB, patterns: false}
producer:
  socket: /run/evrelay/in.sock
  mode: "0600"
  user: root
  group: 12
  max_connections: 1
  allow:
    - {uid: root}
    - {gid: 7, verbs: [relay]}
    - {uid: 4294967294, gid: "root", verbs: [ping, relay]}
    - {gid: 8, verbs: [async_relay, async_multicast, async_unicast, unicast, multicast]}
control: {socket: /run/evrelay/ctl.sock, mode: '777'}
slow_subscriber: {max_lag: 4KiB, policy: block, stall_timeout: 250ms}
async: {timeout: 60min, max_suspended: 1000000}
log: {level: debug, target: /var/log/evrelay.log}
drain: 2min
)");
  CHECK(Addresses(config) == std::vector<std::string>{"0.0.0.0:1", "[::1]:2", "relay.example:65535",
                                                      "unix:/run/evrelay/sub.sock",
                                                      "[fe80::1%eth0]:3", "127.0.0.1:0"});
  CHECK(config.workers == 4);
  CHECK(config.max_clients == 1'000'000);
  CHECK(config.max_clients_per_ip == 16);
  CHECK(config.accept_rate == 500);
  CHECK(config.frame_timeout == std::chrono::seconds(2));
  CHECK(!config.netstring_format);
  CHECK(config.bad_frame == BadFrame::kDiscard);
  CHECK(config.max_message == 1);
  CHECK(config.max_event == 1'073'741'824);
  CHECK(config.send_buffer == 524'288U);
  CHECK(config.script == "hooks/evapi.lua");
  CHECK(config.event_callback == "_ksr_Event2");
  CHECK(config.hook.timeout == 1min);
  CHECK(config.hook.memory == 262'144);
  CHECK(!config.hook.patterns);
  CHECK(config.producer.socket == "/run/evrelay/in.sock");
  CHECK(config.producer.mode == 0600);
  CHECK(config.producer.user == 0U);
  CHECK(config.producer.group == 12U);
  CHECK(config.producer.max_connections == 1);
  CHECK(config.producer.allow ==
        std::vector<AllowRule>{{.uid = 0, .gid = {}, .verbs = {}},
                               {.uid = {}, .gid = 7, .verbs = {"relay"}},
                               {.uid = 4294967294, .gid = 0, .verbs = {"ping", "relay"}},
                               {.uid = {},
                                .gid = 8,
                                .verbs = {"async_relay", "async_multicast", "async_unicast",
                                          "unicast", "multicast"}}});
  CHECK(config.control.socket == "/run/evrelay/ctl.sock");
  CHECK(config.control.mode == 0777);
  CHECK(config.slow_subscriber.max_lag == 4096);
  CHECK(config.slow_subscriber.policy == SlowPolicy::kBlock);
  CHECK(config.slow_subscriber.stall_timeout == 250ms);
  CHECK(config.async.timeout == 1h);
  CHECK(config.async.max_suspended == 1'000'000);
  CHECK(config.log.level == LogLevel::kDebug);
  CHECK(config.log.target == "/var/log/evrelay.log");
  CHECK(config.drain == 2min);
}

TEST_CASE("sizes are bytes, KiB, MiB or GiB") {
  const auto max_lag = [](const std::string& text) {
    return Good("slow_subscriber: {max_lag: " + text + "}").slow_subscriber.max_lag;
  };
  CHECK(max_lag("4096") == 4096);
  CHECK(max_lag("5KiB") == 5120);
  CHECK(max_lag("3MiB") == 3'145'728);
  CHECK(max_lag("2GiB") == 2'147'483'648);
  CHECK(max_lag("1024GiB") == 1'099'511'627'776);
  CHECK(max_lag("\"64KiB\"") == 65'536);
  CHECK(Good("max_message: 1073741824").max_message == 1'073'741'824);
  CHECK(Good("send_buffer: auto").send_buffer == std::nullopt);
  CHECK(Good("send_buffer: 4096").send_buffer == 4096U);
}

TEST_CASE("times are ms, s or min") {
  CHECK(Good("drain: 0s").drain == 0ms);
  CHECK(Good("drain: 1ms").drain == 1ms);
  CHECK(Good("drain: 1500ms").drain == 1500ms);
  CHECK(Good("drain: 90s").drain == 90s);
  CHECK(Good("drain: 60min").drain == 60min);
  CHECK(Good("drain: '3600000ms'").drain == 60min);
}

TEST_CASE("every way to write YAML is understood") {
  CHECK(Good("%YAML 1.2\n---\ndrain: 1s\n...\n").drain == 1s);
  CHECK(Good("\xef\xbb\xbf# caf\u00e9\r\ndrain: 1s\r\nlog:\r\n  level: warn\r\n").log.level ==
        LogLevel::kWarn);
  CHECK(Good("drain:\t1s\t# a tab that indents nothing\n").drain == 1s);
  CHECK(Good("{drain: 1s, log: {level: error,},}").log.level == LogLevel::kError);
  CHECK(Good("\"drain\": >-\n  1s\n").drain == 1s);
  CHECK(Good("? drain\n: 1s\n").drain == 1s);
  CHECK(Good("log:\n  target: '/var/log/it''s'\n").log.target == "/var/log/it's");
  CHECK(Good("log:\n  target: \"/var/\\\"log\\\"\"\n").log.target == "/var/\"log\"");
  CHECK(Good("bind_addr:\n- 127.0.0.1:1\n- 127.0.0.1:2\n").bind_addr.size() == 2);
  CHECK(Good("max_message: &size 1KiB\nmax_event: *size\n").max_event == 1024);
  CHECK(Good("bind_addr: &quoted \"127.0.0.1:1\"\n").bind_addr[0].addr == "127.0.0.1:1");
}

TEST_CASE("an alias that contains itself ends") {
  CHECK(OneError("bind_addr: &loop [*loop]\n") ==
        "f.yaml:1:12: bind_addr: found a list; give HOST:PORT, \"[IPV6]:PORT\" (with the quotes), "
        "unix:/path, a map {addr: ...}, or a list of these");
  CHECK(OneError("producer: &loop {allow: *loop}\n").starts_with("f.yaml:1:11: producer.allow: "));
}

TEST_CASE("aliases do not multiply the work") {
  // 4,000 rules of 7 values each from a file of some 4,000 values.
  std::string text = "producer:\n  allow:\n  - &rule {uid: 0, verbs: [relay, ping]}\n";
  for (int i = 0; i < 4000; ++i) text += "  - *rule\n";
  CHECK(
      OneError(text).ends_with("more than 20000 values, aliases followed; "
                               "this is no configuration"));
}

TEST_CASE("classic alias bombs are cheap") {
  std::string text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 40; ++i) {
    const std::string last = "*a" + std::to_string(i - 1);
    text += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + last;
    for (int k = 0; k < 8; ++k) text += ", " + last;
    text += "]\n";
  }
  text += "bind_addr: *a39\n";
  CHECK(ParseYaml(text, "f.yaml").errors.size() == 40 + 9);
}

TEST_CASE("nesting is bounded") {
  const auto nested = [](std::size_t levels) {
    return "x: " + std::string(levels, '[') + std::string(levels, ']') + "\n";
  };
  CHECK(OneError(nested(15)).starts_with("f.yaml:1:1: unknown key \"x\"; "));
  const std::string deep = "f.yaml:1:19: more than 16 levels deep; this is no configuration";
  CHECK(OneError(nested(16)) == deep);
  CHECK(OneError(nested(100'000)) == deep);
  CHECK(OneError("x: " + std::string(500'000, '[')).ends_with("; this is no configuration"));
  CHECK(OneError("x: " + std::string(500'000, '{')).ends_with("; this is no configuration"));
  std::string blocks;
  for (std::size_t i = 0; i < 1000; ++i) blocks += std::string(i, ' ') + "x:\n";
  CHECK(OneError(blocks) == "f.yaml:17:17: more than 16 levels deep; this is no configuration");
}

TEST_CASE("the number of values is bounded") {
  std::string text = "x: [";
  for (int i = 0; i < 30'000; ++i) text += "y,";
  text += "]\n";
  // The map, its key and the list are the first three.
  CHECK(OneError(text) == "f.yaml:1:" + std::to_string(5 + 2 * (20'000 - 3)) +
                              ": more than 20000 values; this is no configuration");
}

TEST_CASE("the size of a file is bounded") {
  const std::string comment(1'048'576 - 11, '#');
  CHECK(Good("drain: 3s\n" + comment + "\n").drain == 3s);
  CHECK(OneError("drain: 3s\n" + comment + "#\n") ==
        "f.yaml: larger than 1 MiB; this is no configuration");
}

TEST_CASE("files are read whole") {
  const TemporaryDirectory directory;
  const std::string good = directory / "good.yaml";
  std::ofstream(good) << "drain: 3s\n" << std::string(900'000, '#') << "\nmax_clients: 5\n";
  const LoadedConfig loaded = LoadYaml(good);
  CHECK(loaded.errors.empty());
  CHECK(loaded.config.drain == 3s);
  CHECK(loaded.config.max_clients == 5);
  const std::string bad = directory / "bad.yaml";
  std::ofstream(bad) << "drain: 3s\ndrain: 3s\n";
  CHECK(LoadYaml(bad).errors ==
        std::vector<std::string>{bad + ":2:1: drain was given on line 1 already; give it once"});
}

TEST_CASE("a file that cannot be read is an error") {
  CHECK(LoadYaml("/nonexistent/f.yaml").errors ==
        std::vector<std::string>{
            "/nonexistent/f.yaml: No such file or directory; give a file that can be read"});
  CHECK(LoadYaml("/").errors ==
        std::vector<std::string>{"/: Is a directory; give a file that can be read"});
  CHECK(LoadYaml("").errors.size() == 1);
  CHECK(LoadYaml("/dev/zero").errors ==
        std::vector<std::string>{"/dev/zero: larger than 1 MiB; this is no configuration"});
}

TEST_CASE("the installed file states the defaults, and says every key") {
  const LoadedConfig loaded = LoadYaml(EVRELAY_DEFAULT_CONFIG);
  CHECK(loaded.errors == std::vector<std::string>{});
  CheckDefaults(loaded.config);
  // With every comment sign before a key removed it is still a good file, of the same defaults.
  std::ifstream file(EVRELAY_DEFAULT_CONFIG);
  std::string text;
  for (std::string line; std::getline(file, line);) {
    const std::size_t sign = line.find_first_not_of(' ');
    if (sign != std::string::npos && line.substr(sign).starts_with("#") &&
        !line.substr(sign).starts_with("# ") && line.substr(sign) != "#") {
      line.erase(sign, 1);
    }
    text += line + "\n";
  }
  const Config config = Good(text);
  CheckDefaults(config);
  for (const std::string key : {"bind_addr",     "workers",
                                "max_clients",   "netstring_format",
                                "bad_frame",     "max_message",
                                "max_event",     "send_buffer",
                                "script",        "event_callback",
                                "timeout",       "memory",
                                "patterns",      "socket",
                                "mode",          "user",
                                "group",         "max_connections",
                                "allow",         "max_lag",
                                "policy",        "stall_timeout",
                                "max_suspended", "level",
                                "target",        "drain"}) {
    INFO(key);
    CHECK((text.find("\n" + key + ":") != std::string::npos ||
           text.find("\n  " + key + ":") != std::string::npos));
  }
}

}  // namespace
}  // namespace evrelay
