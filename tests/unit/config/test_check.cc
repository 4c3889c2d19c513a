// What no key shows alone.

#include <string>
#include <vector>

#include "config/check.h"
#include "support/catch.h"

namespace evrelay {
namespace {

using Lines = std::vector<std::string>;

std::vector<ListenConfig> Listen(const Lines& addresses) {
  std::vector<ListenConfig> out;
  for (const std::string& address : addresses) out.push_back({address, {}, {}});
  return out;
}

TEST_CASE("the defaults are good") { CHECK(CheckConfig(Config{}).empty()); }

TEST_CASE("values that came from flags are held to the file's rules") {
  Config config;
  config.bind_addr = Listen({"127.0.0.1", "[::1]:8448", "127.0.0.1"});
  config.producer.socket = "in.sock";
  config.control.socket = "/run/control.sock";
  CHECK(CheckConfig(config) ==
        Lines{"producer.socket: \"in.sock\" is not an absolute path; give one that starts with /",
              "bind_addr: \"127.0.0.1\" has no port; give an address such as 127.0.0.1:8448",
              "bind_addr: \"127.0.0.1\" has no port; give an address such as 127.0.0.1:8448"});
}

TEST_CASE("one address cannot be bound twice") {
  Config config;
  config.bind_addr = Listen({"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:1"});
  CHECK(CheckConfig(config) == Lines{"bind_addr: \"127.0.0.1:1\" is given twice; give it once"});
}

TEST_CASE("every Unix socket has a path of its own") {
  Config config;
  config.producer.socket = "/run/a.sock";
  config.control.socket = "/run/a.sock";
  config.bind_addr = Listen({"unix:/run/b.sock"});
  CHECK(CheckConfig(config) == Lines{"producer.socket and control.socket are both "
                                     "\"/run/a.sock\"; give each socket its own path"});
  config.control.socket = "/run/b.sock";
  CHECK(CheckConfig(config) == Lines{"control.socket and bind_addr are both "
                                     "\"/run/b.sock\"; give each socket its own path"});
  config.control.socket = "/run/c.sock";
  CHECK(CheckConfig(config).empty());
}

TEST_CASE("a control socket that is not named stands beside the producers'") {
  Config config;
  config.producer.socket = "/run/evrelay/control.sock";
  CHECK(CheckConfig(config) ==
        Lines{"producer.socket and control.socket are both \"/run/evrelay/control.sock\"; "
              "give each socket its own path"});
  config.producer.socket = "/" + std::string(96, 'a') + "/p.sock";  // control.sock is longer
  REQUIRE(CheckConfig(config).size() == 1);
  CHECK(CheckConfig(config)[0].starts_with("control.socket: "));
  config.control.socket = "/run/c.sock";
  CHECK(CheckConfig(config).empty());
}

TEST_CASE("a callback needs a script to be in") {
  Config config;
  config.event_callback = "ksr_evapi_event";
  CHECK(CheckConfig(config) ==
        Lines{"event_callback: there is no script with \"ksr_evapi_event\"; give script as well, "
              "or leave event_callback out"});
  config.script = "hook.lua";
  CHECK(CheckConfig(config).empty());
}

TEST_CASE("addresses that are good") {
  for (const std::string text :
       {"127.0.0.1:8448", "0.0.0.0:0", "localhost:1", "a-b_c.example:65535", "[::]:8448",
        "[2001:db8::1]:80", "[fe80::1%eth0]:80", "[::ffff:10.0.0.1]:80", "unix:/run/a.sock"}) {
    INFO(text);
    CHECK(BindAddressError(text).empty());
  }
}

TEST_CASE("a host name has at most 253 bytes") {
  CHECK(BindAddressError(std::string(253, 'a') + ":1").empty());
  CHECK(!BindAddressError(std::string(254, 'a') + ":1").empty());
}

TEST_CASE("a socket's path has at most 107 bytes") {
  CHECK(SocketPathError("/" + std::string(106, 'a')).empty());
  CHECK(!SocketPathError("/" + std::string(107, 'a')).empty());
}

TEST_CASE("values are quoted on one line") {
  CHECK(Quoted("") == "\"\"");
  CHECK(Quoted("a\nb\x7f") == "\"a\\x0ab\\x7f\"");
  CHECK(Quoted(std::string(48, 'a')) == '"' + std::string(48, 'a') + '"');
  CHECK(Quoted(std::string(49, 'a')) == '"' + std::string(48, 'a') + "...\"");
}

}  // namespace
}  // namespace evrelay
