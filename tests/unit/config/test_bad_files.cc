// RELIABILITY bar 33: what a bad file is told, to the letter.

#include <string>
#include <vector>

#include "config/load_yaml.h"
#include "support/catch.h"

namespace evrelay {
namespace {

struct BadFile {
  std::string text;
  std::vector<std::string> errors;  // without the file's name in front
};

void Check(const std::vector<BadFile>& files) {
  for (const BadFile& file : files) {
    INFO(file.text);
    std::vector<std::string> expected;
    for (const std::string& error : file.errors) expected.push_back("f.yaml:" + error);
    CHECK(ParseYaml(file.text, "f.yaml").errors == expected);
  }
}

TEST_CASE("bad files: numbers") {
  Check({
      {"max_clients: many\n",
       {"1:14: max_clients: \"many\" is not a whole number; give a whole number from 1 to "
        "1000000"}},
      {"max_clients: 0\n",
       {"1:14: max_clients: \"0\" is out of range; give a whole number from 1 to 1000000"}},
      {"max_clients: 1000001\n",
       {"1:14: max_clients: \"1000001\" is out of range; give a whole number from 1 to 1000000"}},
      {"max_clients: -1\n",
       {"1:14: max_clients: \"-1\" is not a whole number; give a whole number from 1 to 1000000"}},
      {"max_clients: 1.5\n",
       {"1:14: max_clients: \"1.5\" is not a whole number; give a whole number from 1 to 1000000"}},
      {"max_clients: 010\n",
       {"1:14: max_clients: \"010\" is not a whole number; give a whole number from 1 to 1000000"}},
      {"max_clients: 1_000\n",
       {"1:14: max_clients: \"1_000\" is not a whole number; give a whole number from 1 to "
        "1000000"}},
      {"max_clients: 0x10\n",
       {"1:14: max_clients: \"0x10\" is not a whole number; give a whole number from 1 to "
        "1000000"}},
      {"max_clients: 99999999999999999999999\n",
       {"1:14: max_clients: \"99999999999999999999999\" is out of range; give a whole number from "
        "1 to 1000000"}},
      {"max_clients: \"10\"\n",
       {"1:14: max_clients: \"10\" is text, as it is in quotes; give a whole number from 1 to "
        "1000000, without quotes"}},
      {"max_clients: [1]\n",
       {"1:14: max_clients: found a list; give a whole number from 1 to 1000000"}},
      {"max_clients: {a: 1}\n",
       {"1:14: max_clients: found a map; give a whole number from 1 to 1000000"}},
      {"max_clients:\n", {"1:1: max_clients: no value; give a whole number from 1 to 1000000"}},
      {"max_clients: ~\n", {"1:1: max_clients: no value; give a whole number from 1 to 1000000"}},
      {"producer:\n  max_connections: 0\n",
       {"2:20: producer.max_connections: \"0\" is out of range; give a whole number from 1 to "
        "1000000"}},
      {"async: {max_suspended: 0}\n",
       {"1:24: async.max_suspended: \"0\" is out of range; give a whole number from 1 to 1000000"}},
      {"async: {max_suspended: 1000001}\n",
       {"1:24: async.max_suspended: \"1000001\" is out of range; give a whole number from 1 to "
        "1000000"}},
      {"async: {max_suspended: 10k}\n",
       {"1:24: async.max_suspended: \"10k\" is not a whole number; give a whole number from 1 to "
        "1000000"}},
      {"workers: 257\n",
       {"1:10: workers: \"257\" is out of range; give a whole number from 0 to 256"}},
      {"workers: -1\n",
       {"1:10: workers: \"-1\" is not a whole number; give a whole number from 0 to 256"}},
      {"workers: auto\n",
       {"1:10: workers: \"auto\" is not a whole number; give a whole number from 0 to 256"}},
      {"workers:\n", {"1:1: workers: no value; give a whole number from 0 to 256"}},
  });
}

TEST_CASE("bad files: truth values and choices") {
  Check({
      {"netstring_format: yes\n",
       {"1:19: netstring_format: \"yes\" is neither true nor false; give true or false"}},
      {"netstring_format: \"true\"\n",
       {"1:19: netstring_format: \"true\" is text, as it is in quotes; give true or false, without "
        "quotes"}},
      {"netstring_format: True\n",
       {"1:19: netstring_format: \"True\" is neither true nor false; give true or false"}},
      {"netstring_format: 1\n",
       {"1:19: netstring_format: \"1\" is neither true nor false; give true or false"}},
      {"bad_frame: ignore\n",
       {"1:12: bad_frame: \"ignore\" is not a choice; give close or discard"}},
      {"bad_frame: Close\n", {"1:12: bad_frame: \"Close\" is not a choice; give close or discard"}},
      {"hook: {patterns: no}\n",
       {"1:18: hook.patterns: \"no\" is neither true nor false; give true or false"}},
      {"slow_subscriber: {policy: drop}\n",
       {"1:27: slow_subscriber.policy: \"drop\" is not a choice; give disconnect, skip or block"}},
      {"slow_subscriber:\n  policy: [skip]\n",
       {"2:11: slow_subscriber.policy: found a list; give disconnect, skip or block"}},
      {"log: {level: warning}\n",
       {"1:14: log.level: \"warning\" is not a choice; give debug, info, warn or error"}},
  });
}

TEST_CASE("bad files: sizes") {
  Check({
      {"max_message: 64KB\n",
       {"1:14: max_message: \"64KB\" has an unknown unit, \"KB\"; give a size from 1 to 1GiB, in "
        "bytes or in KiB, MiB or GiB, such as 64KiB"}},
      {"max_message: 64 KiB\n",
       {"1:14: max_message: \"64 KiB\" has an unknown unit, \" KiB\"; give a size from 1 to 1GiB, "
        "in bytes or in KiB, MiB or GiB, such as 64KiB"}},
      {"max_message: 64kib\n",
       {"1:14: max_message: \"64kib\" has an unknown unit, \"kib\"; give a size from 1 to 1GiB, in "
        "bytes or in KiB, MiB or GiB, such as 64KiB"}},
      {"max_message: 0\n",
       {"1:14: max_message: \"0\" is out of range; give a size from 1 to 1GiB, in bytes or in KiB, "
        "MiB or GiB, such as 64KiB"}},
      {"max_message: 1025MiB\n",
       {"1:14: max_message: \"1025MiB\" is out of range; give a size from 1 to 1GiB, in bytes or "
        "in KiB, MiB or GiB, such as 64KiB"}},
      {"max_message: 1.5MiB\n",
       {"1:14: max_message: \"1.5MiB\" has an unknown unit, \".5MiB\"; give a size from 1 to 1GiB, "
        "in bytes or in KiB, MiB or GiB, such as 64KiB"}},
      {"max_message: -1\n",
       {"1:14: max_message: \"-1\" does not start with a whole number; give a size from 1 to 1GiB, "
        "in bytes or in KiB, MiB or GiB, such as 64KiB"}},
      {"max_message: big\n",
       {"1:14: max_message: \"big\" does not start with a whole number; give a size from 1 to "
        "1GiB, in bytes or in KiB, MiB or GiB, such as 64KiB"}},
      {"max_message: 18446744073709551616GiB\n",
       {"1:14: max_message: \"18446744073709551616GiB\" is out of range; give a size from 1 to "
        "1GiB, in bytes or in KiB, MiB or GiB, such as 64KiB"}},
      {"max_message: 17179869184GiB\n",
       {"1:14: max_message: \"17179869184GiB\" is out of range; give a size from 1 to 1GiB, in "
        "bytes or in KiB, MiB or GiB, such as 64KiB"}},
      {"max_event: 1073741825\n",
       {"1:12: max_event: \"1073741825\" is out of range; give a size from 1 to 1GiB, in bytes or "
        "in KiB, MiB or GiB, such as 64KiB"}},
      {"max_event: {size: 1}\n",
       {"1:12: max_event: found a map; give a size from 1 to 1GiB, in bytes or in KiB, MiB or GiB, "
        "such as 64KiB"}},
      {"send_buffer: automatic\n",
       {"1:14: send_buffer: \"automatic\" does not start with a whole number; give auto, or a size "
        "from 4KiB to 1GiB, in bytes or in KiB, MiB or GiB, such as 64KiB"}},
      {"send_buffer: 4095\n",
       {"1:14: send_buffer: \"4095\" is out of range; give auto, or a size from 4KiB to 1GiB, in "
        "bytes or in KiB, MiB or GiB, such as 64KiB"}},
      {"slow_subscriber: {max_lag: 4095}\n",
       {"1:28: slow_subscriber.max_lag: \"4095\" is out of range; give a size from 4KiB to "
        "1024GiB, in bytes or in KiB, MiB or GiB, such as 64KiB"}},
      {"hook: {memory: 255KiB}\n",
       {"1:16: hook.memory: \"255KiB\" is out of range; give a size from 256KiB to 1GiB, in bytes "
        "or in KiB, MiB or GiB, such as 64KiB"}},
      {"hook: {memory: 2GiB}\n",
       {"1:16: hook.memory: \"2GiB\" is out of range; give a size from 256KiB to 1GiB, in bytes or "
        "in KiB, MiB or GiB, such as 64KiB"}},
      {"slow_subscriber: {max_lag: 1025GiB}\n",
       {"1:28: slow_subscriber.max_lag: \"1025GiB\" is out of range; give a size from 4KiB to "
        "1024GiB, in bytes or in KiB, MiB or GiB, such as 64KiB"}},
  });
}

TEST_CASE("bad files: times") {
  Check({
      {"drain: 10\n",
       {"1:8: drain: \"10\" has no unit; give a time from 0ms to 60min, in ms, s or min, such as "
        "10s"}},
      {"drain: 0\n",
       {"1:8: drain: \"0\" has no unit; give a time from 0ms to 60min, in ms, s or min, such as "
        "10s"}},
      {"drain: 10m\n",
       {"1:8: drain: \"10m\" has an unknown unit, \"m\"; give a time from 0ms to 60min, in ms, s "
        "or min, such as 10s"}},
      {"drain: 61min\n",
       {"1:8: drain: \"61min\" is out of range; give a time from 0ms to 60min, in ms, s or min, "
        "such as 10s"}},
      {"drain: s\n",
       {"1:8: drain: \"s\" does not start with a whole number; give a time from 0ms to 60min, in "
        "ms, s or min, such as 10s"}},
      {"drain: -1s\n",
       {"1:8: drain: \"-1s\" does not start with a whole number; give a time from 0ms to 60min, in "
        "ms, s or min, such as 10s"}},
      {"drain: 1h\n",
       {"1:8: drain: \"1h\" has an unknown unit, \"h\"; give a time from 0ms to 60min, in ms, s or "
        "min, such as 10s"}},
      {"drain: 307445734561826min\n",
       {"1:8: drain: \"307445734561826min\" is out of range; give a time from 0ms to 60min, in ms, "
        "s or min, such as 10s"}},
      {"slow_subscriber: {stall_timeout: 0s}\n",
       {"1:34: slow_subscriber.stall_timeout: \"0s\" is out of range; give a time from 1ms to "
        "60min, in ms, s or min, such as 10s"}},
      {"hook: {timeout: 0ms}\n",
       {"1:17: hook.timeout: \"0ms\" is out of range; give a time from 1ms to 1min, in ms, s or "
        "min, such as 10s"}},
      {"hook: {timeout: 60001ms}\n",
       {"1:17: hook.timeout: \"60001ms\" is out of range; give a time from 1ms to 1min, in ms, s "
        "or min, such as 10s"}},
      {"hook: {timeout: 50}\n",
       {"1:17: hook.timeout: \"50\" has no unit; give a time from 1ms to 1min, in ms, s or min, "
        "such as 10s"}},
      {"async: {timeout: 0ms}\n",
       {"1:18: async.timeout: \"0ms\" is out of range; give a time from 1ms to 60min, in ms, s or "
        "min, such as 10s"}},
      {"async: {timeout: 3600001ms}\n",
       {"1:18: async.timeout: \"3600001ms\" is out of range; give a time from 1ms to 60min, in ms, "
        "s or min, such as 10s"}},
      {"async: {timeout: 30}\n",
       {"1:18: async.timeout: \"30\" has no unit; give a time from 1ms to 60min, in ms, s or min, "
        "such as 10s"}},
      {"slow_subscriber: {stall_timeout: }\n",
       {"1:19: slow_subscriber.stall_timeout: no value; give a time from 1ms to 60min, in ms, s or "
        "min, such as 10s"}},
  });
}

TEST_CASE("bad files: modes") {
  Check({
      {"producer:\n  mode: 0660\n",
       {"2:9: producer.mode: 0660 is not in quotes, so YAML may take it for another number; give "
        "octal digits in quotes from \"0000\" to \"0777\", such as \"0660\""}},
      {"producer:\n  mode: 660\n",
       {"2:9: producer.mode: 660 is not in quotes, so YAML may take it for another number; give "
        "octal digits in quotes from \"0000\" to \"0777\", such as \"0660\""}},
      {"producer:\n  mode: \"0999\"\n",
       {"2:9: producer.mode: \"0999\" is not a file mode; give octal digits in quotes from "
        "\"0000\" to \"0777\", such as \"0660\""}},
      {"producer:\n  mode: \"1777\"\n",
       {"2:9: producer.mode: \"1777\" is out of range; give octal digits in quotes from \"0000\" "
        "to \"0777\", such as \"0660\""}},
      {"producer:\n  mode: \"7\"\n",
       {"2:9: producer.mode: \"7\" is not a file mode; give octal digits in quotes from \"0000\" "
        "to \"0777\", such as \"0660\""}},
      {"producer:\n  mode: \"000660\"\n",
       {"2:9: producer.mode: \"000660\" is not a file mode; give octal digits in quotes from "
        "\"0000\" to \"0777\", such as \"0660\""}},
      {"producer:\n  mode: rw\n",
       {"2:9: producer.mode: \"rw\" is not a file mode; give octal digits in quotes from \"0000\" "
        "to \"0777\", such as \"0660\""}},
      {"producer:\n  mode: \"-660\"\n",
       {"2:9: producer.mode: \"-660\" is not a file mode; give octal digits in quotes from "
        "\"0000\" to \"0777\", such as \"0660\""}},
      {"control:\n  mode:\n",
       {"2:3: control.mode: no value; give octal digits in quotes from \"0000\" to \"0777\", such "
        "as \"0660\""}},
  });
}

TEST_CASE("bad files: paths") {
  Check({
      {"producer: {socket: \"unix:/run/a\"}\n",
       {"1:20: producer.socket: \"unix:/run/a\" has a prefix; give the path alone, without "
        "\"unix:\""}},
      {"producer: {socket: a.sock}\n",
       {"1:20: producer.socket: \"a.sock\" is not an absolute path; give one that starts with /"}},
      {"producer: {socket: /run/}\n",
       {"1:20: producer.socket: \"/run/\" names a directory; give the path of the socket in it"}},
      {"control: {socket: \"\"}\n",
       {"1:19: control.socket: \"\" is not an absolute path; give one that starts with /"}},
      {"control: {socket: /" + std::string(107, 'a') + "}\n",
       {"1:19: control.socket: \"/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...\" has 108 "
        "bytes; give a path of at most 107, more does not fit the address of a Unix socket"}},
      {"control: {socket: \"/a\\x01b\"}\n",
       {"1:19: control.socket: \"/a\\x01b\" has a control character in it; give the absolute path "
        "of a Unix socket"}},
      {"control: {socket: \"/a\\nb\"}\n",
       {"1:19: control.socket: \"/a\\x0ab\" has a control character in it; give the absolute path "
        "of a Unix socket"}},
      {"log: {target: relay.log}\n",
       {"1:15: log.target: \"relay.log\" is not a log target; give stderr, syslog, journald or the "
        "absolute path of a file"}},
      {"log: {target: /var/log/}\n",
       {"1:15: log.target: \"/var/log/\" is not a log target; give stderr, syslog, journald or the "
        "absolute path of a file"}},
      {"log: {target: [syslog]}\n",
       {"1:15: log.target: found a list; give stderr, syslog, journald or the absolute path of a "
        "file"}},
  });
}

TEST_CASE("bad files: the script") {
  Check({
      {"script: [a.lua, b.lua]\n", {"1:9: script: found a list; give the path of a file"}},
      {"script: {file: a.lua}\n", {"1:9: script: found a map; give the path of a file"}},
      {"script: \"a\\nb\"\n",
       {"1:9: script: \"a\\x0ab\" has a control character in it; give the path of a file"}},
      {"event_callback: ksr.evapi\n",
       {"1:17: event_callback: \"ksr.evapi\" cannot be a Lua function; give the name of a Lua "
        "function: letters, digits and underscores, no digit first"}},
      {"event_callback: 1st\n",
       {"1:17: event_callback: \"1st\" cannot be a Lua function; give the name of a Lua function: "
        "letters, digits and underscores, no digit first"}},
      {"event_callback: \"\"\n",
       {"1:17: event_callback: \"\" cannot be a Lua function; give the name of a Lua function: "
        "letters, digits and underscores, no digit first"}},
      {"event_callback: [f]\n",
       {"1:17: event_callback: found a list; give the name of a Lua function: letters, digits and "
        "underscores, no digit first"}},
      {"hook: hook.lua\n",
       {"1:7: hook: \"hook.lua\" is a single value; give a map with keys such as timeout"}},
  });
}

TEST_CASE("bad files: addresses") {
  Check({
      {"bind_addr: 8448\n",
       {"1:12: bind_addr: \"8448\" has no host; give an address such as 127.0.0.1:8448"}},
      {"bind_addr: localhost\n",
       {"1:12: bind_addr: \"localhost\" has no port; give an address such as 127.0.0.1:8448"}},
      {"bind_addr: ::1:8448\n",
       {"1:12: bind_addr: \"::1:8448\" has more than one colon; give an IPv6 address in brackets, "
        "such as \"[::1]:8448\""}},
      {"bind_addr: [::1]:8448\n",
       {"1:17: not YAML, end of map not found; an IPv6 address needs quotes: \"[::1]:8448\""}},
      {"bind_addr: [[::1]:8448]\n",
       {"1:13: bind_addr: found a map; give HOST:PORT, \"[IPV6]:PORT\" (with the quotes), "
        "unix:/path, a map {addr: ...}, or a list of these"}},
      {"bind_addr: {}\n", {"1:12: bind_addr: no addr; give an address such as 127.0.0.1:8448"}},
      {"bind_addr: {allow: [10.0.0.0/8]}\n",
       {"1:12: bind_addr: no addr; give an address such as 127.0.0.1:8448"}},
      {"bind_addr: {addr: 8448}\n",
       {"1:19: bind_addr.addr: \"8448\" has no host; give an address such as 127.0.0.1:8448"}},
      {"bind_addr: [127.0.0.1:1, {addr: 127.0.0.1:1}]\n",
       {"1:33: bind_addr.addr: \"127.0.0.1:1\" is given twice; give it once"}},
      {"bind_addr: {addr: 127.0.0.1:1, allows: [10.0.0.0/8]}\n",
       {"1:32: unknown key \"bind_addr.allows\"; did you mean \"bind_addr.allow\"?"}},
      {"bind_addr: {addr: 127.0.0.1:1, allow: 10.0.0.0/8}\n",
       {"1:39: bind_addr.allow: \"10.0.0.0/8\" is a single value; give a list of networks such as "
        "[10.0.0.0/8], or leave it out"}},
      {"bind_addr: {addr: 127.0.0.1:1, allow: []}\n",
       {"1:39: bind_addr.allow: an empty list; give networks such as [10.0.0.0/8], or leave it out "
        "for everyone"}},
      {"bind_addr: {addr: 127.0.0.1:1, allow: [10.0.0.0/33, 10.0.0.1/8, ten, \"::1/129\"]}\n",
       {"1:40: bind_addr.allow: \"10.0.0.0/33\" has no valid prefix length; give one from /0 to "
        "/32",
        "1:53: bind_addr.allow: \"10.0.0.1/8\" has bits after its prefix; give 10.0.0.0/8, or the "
        "address alone",
        "1:65: bind_addr.allow: \"ten\" is no network; give one such as 10.0.0.0/8 or "
        "2001:db8::/32",
        "1:70: bind_addr.allow: \"::1/129\" has no valid prefix length; give one from /0 to /128"}},
      {"bind_addr: {addr: \"unix:/s\", allow: [10.0.0.0/8]}\n",
       {"1:12: bind_addr: allow is for IP addresses, \"unix:/s\" has none; leave it out, the "
        "directory's mode says who may connect"}},
      {"bind_addr: {addr: 127.0.0.1:1, tls: true}\n",
       {"1:37: bind_addr.tls: \"true\" is a single value; give a map such as {cert: FILE, key: "
        "FILE}"}},
      {"bind_addr: {addr: 127.0.0.1:1, tls: {key: k}}\n",
       {"1:37: bind_addr.tls: no cert; give the PEM file of the certificate"}},
      {"bind_addr: {addr: 127.0.0.1:1, tls: {cert: c, key: k, client_ca: }}\n",
       {"1:55: bind_addr.tls.client_ca: no value; give the PEM file of who signs, or leave it out "
        "to "
        "ask for no certificates"}},
      {"bind_addr: {addr: 127.0.0.1:1, tls: {cert: c}}\n",
       {"1:37: bind_addr.tls: no key; give the PEM file of the certificate's private key"}},
      {"bind_addr: {addr: 127.0.0.1:1, tls: {cert: c, key: k, min: \"1.1\"}}\n",
       {"1:60: bind_addr.tls.min: \"1.1\" is not a choice; give 1.2 or 1.3"}},
      {"bind_addr: \"[::1]\"\n",
       {"1:12: bind_addr: \"[::1]\" has no port; give an address such as \"[::1]:8448\""}},
      {"bind_addr: \"[::1:8448\"\n",
       {"1:12: bind_addr: \"[::1:8448\" has no closing bracket; give an address such as "
        "\"[::1]:8448\""}},
      {"bind_addr: \"[relay]:1\"\n",
       {"1:12: bind_addr: \"[relay]:1\" has no IPv6 address in its brackets; give one such as "
        "\"[::1]:8448\""}},
      {"bind_addr: \"*:8448\"\n",
       {"1:12: bind_addr: \"*:8448\" has no host; give 0.0.0.0 for every IPv4 address, \"[::]\" "
        "for every IPv6 one"}},
      {"bind_addr: \":8448\"\n",
       {"1:12: bind_addr: \":8448\" has no host; give 0.0.0.0 for every IPv4 address, \"[::]\" for "
        "every IPv6 one"}},
      {"bind_addr: 300.1.1.1:80\n",
       {"1:12: bind_addr: \"300.1.1.1:80\" has no valid IPv4 address; give one such as "
        "127.0.0.1:8448"}},
      {"bind_addr: 127.0.0.1:65536\n",
       {"1:12: bind_addr: \"127.0.0.1:65536\" has no valid port; give one from 0 (any free port) "
        "to 65535"}},
      {"bind_addr: \"127.0.0.1:\"\n",
       {"1:12: bind_addr: \"127.0.0.1:\" has no valid port; give one from 0 (any free port) to "
        "65535"}},
      {"bind_addr: 127.0.0.1:http\n",
       {"1:12: bind_addr: \"127.0.0.1:http\" has no valid port; give one from 0 (any free port) to "
        "65535"}},
      {"bind_addr: 127.0.0.1:+80\n",
       {"1:12: bind_addr: \"127.0.0.1:+80\" has no valid port; give one from 0 (any free port) to "
        "65535"}},
      {"bind_addr: re lay:80\n",
       {"1:12: bind_addr: \"re lay:80\" has no valid host name; give an address such as "
        "127.0.0.1:8448"}},
      {"bind_addr: 127.0.0.1:1, 127.0.0.1:2\n",
       {"1:12: bind_addr: \"127.0.0.1:1, 127.0.0.1:2\" has a comma; give several addresses as a "
        "list: [ADDRESS, ADDRESS]"}},
      {"bind_addr: []\n",
       {"1:12: bind_addr: an empty list; give HOST:PORT, \"[IPV6]:PORT\" (with the quotes), "
        "unix:/path, a map {addr: ...}, or a list of these"}},
      {"bind_addr:\n  - {addr: x}\n  - 127.0.0.1:1\n  - 127.0.0.1:1\n",
       {"2:12: bind_addr.addr: \"x\" has no port; give an address such as 127.0.0.1:8448",
        "4:5: bind_addr: \"127.0.0.1:1\" is given twice; give it once"}},
      {"bind_addr:\n  - 127.0.0.1:1\n  -\n",
       {"2:3: bind_addr: no value; give HOST:PORT, \"[IPV6]:PORT\" (with the quotes), unix:/path, "
        "a map {addr: ...}, or a list of these"}},
      {"bind_addr: unix:run\n",
       {"1:12: bind_addr: \"run\" is not an absolute path; give one that starts with /"}},
      {"bind_addr: /run/sub.sock\n",
       {"1:12: bind_addr: \"/run/sub.sock\" is a path; give a Unix socket as \"unix:/path\""}},
      {"bind_addr:\n",
       {"1:1: bind_addr: no value; give HOST:PORT, \"[IPV6]:PORT\" (with the quotes), unix:/path, "
        "a map {addr: ...}, or a list of these"}},
      {"bind_addr: \"\"\n",
       {"1:12: bind_addr: \"\" has no port; give an address such as 127.0.0.1:8448"}},
  });
}

TEST_CASE("bad files: owners and rules") {
  Check({
      {"producer: {user: no-such-user}\n",
       {"1:18: producer.user: there is no user \"no-such-user\"; give the name of a user of this "
        "system, or a number up to 4294967294"}},
      {"producer: {group: no-such-group}\n",
       {"1:19: producer.group: there is no group \"no-such-group\"; give the name of a group of "
        "this system, or a number up to 4294967294"}},
      {"producer: {user: 4294967295}\n",
       {"1:18: producer.user: \"4294967295\" is out of range; give the name of a user of this "
        "system, or a number up to 4294967294"}},
      {"producer: {user: [root]}\n",
       {"1:18: producer.user: found a list; give the name of a user of this system, or a number up "
        "to 4294967294"}},
      {"producer: {user: \"\"}\n",
       {"1:18: producer.user: there is no user \"\"; give the name of a user of this system, or a "
        "number up to 4294967294"}},
      {"producer: {allow: }\n",
       {"1:12: producer.allow: no value; give a list of rules such as [{uid: root}], or [] for "
        "everyone"}},
      {"producer: {allow: {uid: 0}}\n",
       {"1:19: producer.allow: found a map; give a list of rules such as [{uid: root}], or [] for "
        "everyone"}},
      {"producer: {allow: [root]}\n",
       {"1:20: producer.allow: \"root\" is a single value; give a rule such as {uid: root, verbs: "
        "[relay]}"}},
      {"producer: {allow: [{}]}\n",
       {"1:20: producer.allow: a rule that names nobody; give it a uid or a gid"}},
      {"producer: {allow: [{verbs: [relay]}]}\n",
       {"1:20: producer.allow: a rule that names nobody; give it a uid or a gid"}},
      {"producer: {allow: [{uid: no-such-user}]}\n",
       {"1:26: producer.allow.uid: there is no user \"no-such-user\"; give the name of a user of "
        "this system, or a number up to 4294967294"}},
      {"producer: {allow: [{uid: 0}, {gid: }]}\n",
       {"1:31: producer.allow.gid: no value; give the name of a group of this system, or a number "
        "up to 4294967294"}},
      {"producer: {allow: [{uid: 0, uid: 1}]}\n",
       {"1:29: producer.allow.uid was given on line 1 already; give it once"}},
      {"producer: {allow: [{uid: 0, verbs: []}]}\n",
       {"1:36: producer.allow.verbs: an empty list; give a list of relay, multicast, unicast, "
        "async_relay, async_multicast, async_unicast and ping, or leave verbs out for all"}},
      {"producer: {allow: [{uid: 0, verbs: relay}]}\n",
       {"1:36: producer.allow.verbs: \"relay\" is a single value; give a list of relay, multicast, "
        "unicast, async_relay, async_multicast, async_unicast and ping"}},
      {"producer: {allow: [{uid: 0, verbs: [relay, relay, async, [ping]]}]}\n",
       {"1:44: producer.allow.verbs: \"relay\" is given twice; give it once",
        "1:51: producer.allow.verbs: \"async\" is not a verb; give a list of relay, multicast, "
        "unicast, async_relay, async_multicast, async_unicast and ping",
        "1:58: producer.allow.verbs: found a list; give a list of relay, multicast, unicast, "
        "async_relay, async_multicast, async_unicast and ping"}},
      {"producer: {allow: [{user: 0}]}\n",
       {"1:21: unknown key \"producer.allow.user\"; known here: uid, gid, verbs"}},
  });
}

TEST_CASE("bad files: unknown and repeated keys") {
  Check({
      {"max_client: 1\n", {"1:1: unknown key \"max_client\"; did you mean \"max_clients\"?"}},
      {"maxclients: 1\n", {"1:1: unknown key \"maxclients\"; did you mean \"max_clients\"?"}},
      {"MAX-CLIENTS: 1\n", {"1:1: unknown key \"MAX-CLIENTS\"; did you mean \"max_clients\"?"}},
      {"mxa_clients: 1\n", {"1:1: unknown key \"mxa_clients\"; did you mean \"max_clients\"?"}},
      {"dran: 1s\n", {"1:1: unknown key \"dran\"; did you mean \"drain\"?"}},
      {"producer: {soket: /run/a}\n",
       {"1:12: unknown key \"producer.soket\"; did you mean \"producer.socket\"?"}},
      {"slow_subscriber: {stall_timout: 1s}\n",
       {"1:19: unknown key \"slow_subscriber.stall_timout\"; did you mean "
        "\"slow_subscriber.stall_timeout\"?"}},
      {"socket: /run/a\n",
       {"1:1: unknown key \"socket\"; did you mean producer.socket or control.socket?"}},
      {"async: {max_suspend: 1}\n",
       {"1:9: unknown key \"async.max_suspend\"; did you mean \"async.max_suspended\"?"}},
      {"max_suspended: 1\n",
       {"1:1: unknown key \"max_suspended\"; did you mean async.max_suspended?"}},
      {"max_lag: 1MiB\n", {"1:1: unknown key \"max_lag\"; did you mean slow_subscriber.max_lag?"}},
      {"producer:\n  drain: 5s\n",
       {"2:3: unknown key \"producer.drain\"; did you mean drain (without indentation)?"}},
      {"worker: 1\n", {"1:1: unknown key \"worker\"; did you mean \"workers\"?"}},
      {"timeout: 1s\n",
       {"1:1: unknown key \"timeout\"; did you mean hook.timeout or async.timeout?"}},
      {"hook: {script: hook.lua}\n",
       {"1:8: unknown key \"hook.script\"; did you mean script (without indentation)?"}},
      {"hook: {pattern: true}\n",
       {"1:8: unknown key \"hook.pattern\"; did you mean \"hook.patterns\"?"}},
      {"{drain:1s}\n",
       {"1:2: unknown key \"drain:1s\"; put a space after the colon: \"drain: ...\""}},
      {"log: {level:info}\n",
       {"1:7: unknown key \"log.level:info\"; put a space after the colon: \"level: ...\""}},
      {"<<: {drain: 1s}\n",
       {"1:1: unknown key \"<<\"; known here: bind_addr, workers, max_clients, "
        "max_clients_per_ip, accept_rate, netstring_format, bad_frame, max_message, max_event, "
        "frame_timeout, send_buffer, script, event_callback, hook, producer, control, "
        "slow_subscriber, async, log, drain"}},
      {"\"a\\nb\": 1\n",
       {"1:1: unknown key \"a\\x0ab\"; known here: bind_addr, workers, max_clients, "
        "max_clients_per_ip, accept_rate, netstring_format, bad_frame, max_message, max_event, "
        "frame_timeout, send_buffer, script, event_callback, hook, producer, control, "
        "slow_subscriber, async, log, drain"}},
      {"drain: 1s\ndrain: 1s\n", {"2:1: drain was given on line 1 already; give it once"}},
      {"producer: {mode: \"0660\", mode: \"0600\"}\n",
       {"1:26: producer.mode was given on line 1 already; give it once"}},
      {"log: {level: info}\nlog: {target: syslog}\n",
       {"2:1: log was given on line 1 already; give it once"}},
      {"? [a]\n: b\n", {"1:3: a list stands where a key belongs; give a name and a colon"}},
      {": b\n", {"1:1: nothing stands where a key belongs; give a name and a colon"}},
  });
}

TEST_CASE("bad files: the shape of the file") {
  Check({
      {"- a\n", {"1:1: the file is a list; give keys with values, such as max_clients: 1024"}},
      {"hello\n",
       {"1:1: the file is a single value; give keys with values, such as max_clients: 1024"}},
      {"drain:1s\n",
       {"1:1: the file is a single value; give keys with values, such as max_clients: 1024"}},
      {"producer: 5\n",
       {"1:11: producer: \"5\" is a single value; give a map with keys such as socket"}},
      {"producer: [a]\n", {"1:11: producer: found a list; give a map with keys such as socket"}},
      {"log:\n- level: info\n", {"2:1: log: found a list; give a map with keys such as level"}},
      {"control: \"x\"\n",
       {"1:10: control: \"x\" is a single value; give a map with keys such as socket"}},
  });
}

TEST_CASE("bad files: text that is not YAML") {
  Check({
      {"drain: 1s: 2\n",
       {"1:10: not YAML, illegal map value; check the indentation, quotes, and the space after "
        "each colon"}},
      {"drain: @x\n",
       {"1:8: not YAML, unknown token; check the indentation, quotes, and the space after each "
        "colon"}},
      {"drain: *a\n",
       {"1:8: not YAML, the referenced anchor is not defined; check the indentation, quotes, and "
        "the space after each colon"}},
      {"drain: {\n", {"1:8: this bracket is never closed; add its partner"}},
      {"max_clients: 5\ndrain: [1s", {"2:8: this bracket is never closed; add its partner"}},
      {"drain: 1s]\n",
       {"1:8: drain: \"1s]\" has an unknown unit, \"s]\"; give a time from 0ms to 60min, in ms, s "
        "or min, such as 10s"}},
      {"drain: \"1s", {"1:8: this quote is never closed; add a \""}},
      {"log: {level: info}\ndrain: \"1s\nmax_clients: 5\n",
       {"2:8: this quote is never closed; add a \""}},
      {"log: {target: 'it''s}\n", {"1:15: this quote is never closed; add a '"}},
      {"log:\n  level: info\n target: stderr\n",
       {"3:2: not YAML, end of map not found; check the indentation, quotes, and the space after "
        "each colon"}},
      {"drain:1s\nmax_clients: 5\n",
       {"2:12: not YAML, illegal map value; check the indentation, quotes, and the space after "
        "each colon"}},
      {"drain: 1s\n- a\n",
       {"2:1: not YAML, end of map not found; check the indentation, quotes, and the space after "
        "each colon"}},
      {"{drain: 1s}\nmax_clients: 5\n",
       {"2:1: text after the end of the document; check the indentation"}},
      {"%YAML 3.0\n---\ndrain: 1s\n",
       {"1:1: not YAML, YAML major version too large; check the indentation, quotes, and the space "
        "after each colon"}},
      {"drain: 1s\n---\nmax_clients: 5\n",
       {"2:1: a second document; only one is read, remove this \"---\""}},
      {"drain: 1s\n...\n---\n", {"3:1: a second document; only one is read, remove this \"---\""}},
      {"drain: !!str 1s\n", {"1:8: tag \"tag:yaml.org,2002:str\" has no meaning here; remove it"}},
      {"log: !log {level: info}\n", {"1:6: tag \"!log\" has no meaning here; remove it"}},
  });
}

TEST_CASE("bad files: bytes that are no text") {
  using namespace std::string_literals;
  Check({
      {"\tdrain: 1s\n", {"1:1: a tab in the indentation; YAML indents with spaces only"}},
      {"log:\n  \tlevel: info\n", {"2:3: a tab in the indentation; YAML indents with spaces only"}},
      {"drain: 1s\0"s, {"1:10: control byte 0x00; a configuration is plain text"}},
      {"drain: 1s # \x1b[31m\n", {"1:13: control byte 0x1b; a configuration is plain text"}},
      {"drain: 1s\rlog:\n", {"1:10: control byte 0x0d; a configuration is plain text"}},
      {"drain: 1s\n# \x7f\n", {"2:3: control byte 0x7f; a configuration is plain text"}},
      {"\xff\xfe\x64\0"s, {"1:1: byte 0xff is not UTF-8; save the file as UTF-8"}},
      {"# gr\xfc\xdf\n", {"1:5: byte 0xfc is not UTF-8; save the file as UTF-8"}},
      {"# \xc0\x80\n", {"1:3: byte 0xc0 is not UTF-8; save the file as UTF-8"}},
      {"# \xe0\x80\x80\n", {"1:3: byte 0xe0 is not UTF-8; save the file as UTF-8"}},
      {"# \xed\xa0\x80\n", {"1:3: byte 0xed is not UTF-8; save the file as UTF-8"}},
      {"# \xf0\x80\x80\x80\n", {"1:3: byte 0xf0 is not UTF-8; save the file as UTF-8"}},
      {"# \xf4\x90\x80\x80\n", {"1:3: byte 0xf4 is not UTF-8; save the file as UTF-8"}},
      {"# \xf5\x80\x80\x80\n", {"1:3: byte 0xf5 is not UTF-8; save the file as UTF-8"}},
      {"# \xe2\x82", {"1:3: byte 0xe2 is not UTF-8; save the file as UTF-8"}},
  });
}

TEST_CASE("bad files: all errors at once, in the order of the file") {
  Check({{
      "bind_addr: 8448\n"
      "max_client: 5   # misspelt\n"
      "slow_subscriber:\n"
      "  max_lag: 1KiB\n"
      "  policy: drop\n"
      "drain: !!str 5\n"
      "log: {level: loud, level: info}\n"
      "producer:\n"
      "  allow:\n"
      "    - {verbs: [relay]}\n"
      "    - {uid: 0, verbs: [shout]}\n"
      "---\n",
      {
          "1:12: bind_addr: \"8448\" has no host; give an address such as 127.0.0.1:8448",
          "2:1: unknown key \"max_client\"; did you mean \"max_clients\"?",
          "4:12: slow_subscriber.max_lag: \"1KiB\" is out of range; give a size from 4KiB to "
          "1024GiB, in bytes or in KiB, MiB or GiB, such as 64KiB",
          "5:11: slow_subscriber.policy: \"drop\" is not a choice; give disconnect, skip or block",
          "6:8: tag \"tag:yaml.org,2002:str\" has no meaning here; remove it",
          "6:8: drain: \"5\" has no unit; give a time from 0ms to 60min, in ms, s or min, such as "
          "10s",
          "7:14: log.level: \"loud\" is not a choice; give debug, info, warn or error",
          "7:20: log.level was given on line 7 already; give it once",
          "10:7: producer.allow: a rule that names nobody; give it a uid or a gid",
          "11:24: producer.allow.verbs: \"shout\" is not a verb; give a list of relay, multicast, "
          "unicast, async_relay, async_multicast, async_unicast and ping",
          "12:1: a second document; only one is read, remove this \"---\"",
      },
  }});
}

TEST_CASE("bad files: the first hundred errors are shown") {
  std::string text;
  for (int i = 0; i < 250; ++i) text += "zzz" + std::to_string(i) + ": 1\n";
  const std::vector<std::string> errors = ParseYaml(text, "f.yaml").errors;
  REQUIRE(errors.size() == 101);
  CHECK(errors[99].starts_with("f.yaml:100:1: unknown key \"zzz99\"; "));
  CHECK(errors[100] == "f.yaml: 150 more errors are not shown");
}

TEST_CASE("bad files: long values are cut between characters, and stay on one line") {
  std::string name(47, 'x');
  name += "\u00e4\u00f6";
  const std::vector<std::string> errors = ParseYaml(name + ": 1\n", "f.yaml").errors;
  REQUIRE(errors.size() == 1);
  CHECK(errors[0].starts_with("f.yaml:1:1: unknown key \"" + std::string(47, 'x') + "...\"; "));
}

}  // namespace
}  // namespace evrelay
