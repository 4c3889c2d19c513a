// argv in, plain structs or a text for the user out.

#include <chrono>
#include <string>
#include <vector>

#include "cli.h"
#include "evrelay/version.h"
#include "support/catch.h"

namespace evrelay {
namespace {

using Words = std::vector<std::string>;

std::variant<CommandLine, CliExit> Parse(const Words& words) {
  std::vector<const char*> argv{"evrelay"};
  for (const std::string& word : words) argv.push_back(word.c_str());
  argv.push_back(nullptr);
  return ParseCommandLine(static_cast<int>(argv.size()) - 1, argv.data());
}

template <class Options>
Options Good(const Words& words) {
  const auto result = Parse(words);
  if (const auto* exit = std::get_if<CliExit>(&result)) FAIL(exit->err);
  const CommandLine& line = std::get<CommandLine>(result);
  REQUIRE(std::holds_alternative<Options>(line.command));
  return std::get<Options>(line.command);
}

CliExit Exit(const Words& words) {
  const auto result = Parse(words);
  REQUIRE(std::holds_alternative<CliExit>(result));
  return std::get<CliExit>(result);
}

// A usage error: exit code 2, one line that says what is wrong, one that says where to look.
void CheckUsageError(const Words& words, const std::string& what, const std::string& help) {
  const CliExit exit = Exit(words);
  INFO(what);
  CHECK(exit.code == 2);
  CHECK(exit.out.empty());
  CHECK(exit.err == "evrelay: " + what + "\nTry: " + help + "\n");
}

TEST_CASE("without arguments the relay is run with its defaults") {
  for (const Words& words : {Words{}, Words{"serve"}}) {
    const ServeOptions options = Good<ServeOptions>(words);
    CHECK(!options.config_file);
    CHECK(options.bind_addr.empty());
    CHECK(!options.workers);
    CHECK(!options.producer_socket);
    CHECK(!options.script);
    CHECK(!options.log_level);
    CHECK(!options.check);
  }
}

TEST_CASE("serve takes its flags with and without its name") {
  const Words flags{
      "-c",        "/etc/e.yaml", "--bind-addr",       "127.0.0.1:1", "--bind-addr",
      "[::1]",     "--check",     "--producer-socket", "/run/p.sock", "--log-level=debug",
      "--workers", "4",           "--script",          "hook.lua"};
  Words named = flags;
  named.insert(named.begin(), "serve");
  for (const Words& words : {flags, named}) {
    const ServeOptions options = Good<ServeOptions>(words);
    CHECK(options.config_file == "/etc/e.yaml");
    CHECK(options.bind_addr == Words{"127.0.0.1:1", "[::1]"});
    CHECK(options.workers == 4U);
    CHECK(options.producer_socket == "/run/p.sock");
    CHECK(options.script == "hook.lua");
    CHECK(options.log_level == LogLevel::kDebug);
    CHECK(options.check);
  }
  CHECK(Good<ServeOptions>({"--config", "a"}).config_file == "a");
  CHECK(Good<ServeOptions>({"--log-level", "warn"}).log_level == LogLevel::kWarn);
  CHECK(Good<ServeOptions>({"--workers", "0"}).workers == 0U);
  CHECK(Good<ServeOptions>({"--workers", "256"}).workers == 256U);
  CHECK(Good<ServeOptions>({"--script", ""}).script == "");
}

TEST_CASE("flags beat the file, and only those that were given") {
  Config config;
  const ListenConfig first{"127.0.0.1:7", {Network()}, {}};
  const ListenConfig second{"127.0.0.1:8", {}, TlsConfig()};
  config.bind_addr = {first, second};
  config.producer.socket = "/run/file.sock";
  config.log.level = LogLevel::kError;
  config.max_clients = 5;
  config.workers = 3;
  config.script = "file.lua";
  ApplyFlags(Good<ServeOptions>({}), config);
  CHECK(config.bind_addr == std::vector<ListenConfig>{first, second});
  CHECK(config.producer.socket == "/run/file.sock");
  CHECK(config.log.level == LogLevel::kError);
  CHECK(config.workers == 3);
  CHECK(config.script == "file.lua");
  ApplyFlags(
      Good<ServeOptions>({"--bind-addr", "127.0.0.1:1", "--producer-socket", "/run/flag.sock",
                          "--log-level", "info", "--workers", "0", "--script", "flag.lua"}),
      config);
  CHECK(config.bind_addr == std::vector<ListenConfig>{{"127.0.0.1:1", {}, {}}});
  CHECK(config.producer.socket == "/run/flag.sock");
  CHECK(config.log.level == LogLevel::kInfo);
  CHECK(config.max_clients == 5);
  CHECK(config.workers == 0);
  CHECK(config.script == "flag.lua");
  ApplyFlags(Good<ServeOptions>({"--script", ""}), config);
  CHECK(config.script.empty());
}

TEST_CASE("pub takes events to the letter") {
  const PubOptions none = Good<PubOptions>({"pub"});
  CHECK(none.socket.empty());
  CHECK(!none.ack);
  CHECK(!none.netstring);
  CHECK(none.data.empty());

  const Words events{"[1,2]", "{}", "{\"a\":[1]}", "",     "a,b",
                     "%%",    "++", "-",           "a\nb", "\"quoted\""};
  Words words = events;
  words.insert(words.begin(), "pub");
  CHECK(Good<PubOptions>(words).data == events);

  const PubOptions mixed = Good<PubOptions>({"pub", "a", "--ack", "b", "--socket", "/run/p", "c"});
  CHECK(mixed.data == Words{"a", "b", "c"});
  CHECK(mixed.ack);
  CHECK(mixed.socket == "/run/p");
  CHECK(Good<PubOptions>({"pub", "--netstring"}).netstring);
  CHECK(Good<PubOptions>({"pub", "--", "-x", "--ack", "--"}).data == Words{"-x", "--ack", "--"});
}

TEST_CASE("pub takes a tag, and how long to wait for a hook") {
  const PubOptions none = Good<PubOptions>({"pub"});
  CHECK(none.multicast.empty());
  CHECK(none.unicast.empty());
  CHECK(!none.async);
  CHECK(!none.timeout);
  CHECK(!none.requests());

  const PubOptions all = Good<PubOptions>(
      {"pub", "--async", "a", "--timeout", "3600000", "--multicast", "[1,2]", "b"});
  CHECK(all.async);
  CHECK(all.timeout == std::chrono::hours(1));
  CHECK(all.multicast == "[1,2]");
  CHECK(all.unicast.empty());
  CHECK(all.data == Words{"a", "b"});
  CHECK(all.requests());

  const std::string longest(63, 't');
  CHECK(Good<PubOptions>({"pub", "--unicast", longest}).unicast == longest);
  CHECK(Good<PubOptions>({"pub", "--unicast=-x"}).unicast == "-x");
  CHECK(Good<PubOptions>({"pub", "--async", "--timeout=1"}).timeout ==
        std::chrono::milliseconds(1));
  for (const Words& words : {Words{"pub", "--ack"}, Words{"pub", "--async"},
                             Words{"pub", "--unicast", "t"}, Words{"pub", "--multicast", "t"}}) {
    CHECK(Good<PubOptions>(words).requests());
  }
}

TEST_CASE("sub takes an address, a count, a format and messages") {
  const SubOptions none = Good<SubOptions>({"sub"});
  CHECK(none.address == "127.0.0.1:8448");
  CHECK(!none.count);
  CHECK(none.format == SubOptions::Format::kText);
  CHECK(none.send.empty());

  const SubOptions all = Good<SubOptions>({"sub", "--send", "[1,2]", "[::1]:8448", "--count",
                                           "18446744073709551615", "--json", "--send", "{}"});
  CHECK(all.address == "[::1]:8448");
  CHECK(all.count == UINT64_MAX);
  CHECK(all.format == SubOptions::Format::kJson);
  CHECK(all.send == Words{"[1,2]", "{}"});
  CHECK(Good<SubOptions>({"sub", "--raw"}).format == SubOptions::Format::kRaw);
  CHECK(Good<SubOptions>({"sub", "--netstring"}).format == SubOptions::Format::kNetstring);
  CHECK(Good<SubOptions>({"sub", "unix:/run/s"}).address == "unix:/run/s");
}

TEST_CASE("sub takes what TLS needs") {
  CHECK(!Good<SubOptions>({"sub"}).tls);
  const SubOptions bare = Good<SubOptions>({"sub", "--tls"});
  REQUIRE(bare.tls);
  CHECK((bare.tls->ca + bare.tls->cert + bare.tls->key + bare.server_name).empty());
  const SubOptions all =
      Good<SubOptions>({"sub", "relay:8448", "--tls", "--ca", "ca.pem", "--cert", "cert.pem",
                        "--key", "key.pem", "--server-name", "other"});
  REQUIRE(all.tls);
  CHECK(all.tls->ca == "ca.pem");
  CHECK(all.tls->cert == "cert.pem");
  CHECK(all.tls->key == "key.pem");
  CHECK(all.server_name == "other");

  const std::string sub = "evrelay sub --help";
  CheckUsageError({"sub", "--tls", "--cert", "a"}, "--cert and --key: give both or none of them",
                  sub);
  CheckUsageError({"sub", "--tls", "--key", "a"}, "--cert and --key: give both or none of them",
                  sub);
  for (const std::string option : {"--ca", "--server-name"}) {
    CheckUsageError({"sub", option, "a"}, option + ": this is for TLS; give --tls, too", sub);
  }
  CheckUsageError({"sub", "--cert", "a", "--key", "b"}, "--cert: this is for TLS; give --tls, too",
                  sub);
}

TEST_CASE("status takes a socket and a format") {
  CHECK(Good<StatusOptions>({"status"}).socket.empty());
  CHECK(Good<StatusOptions>({"status"}).format == StatusOptions::Format::kTable);
  const StatusOptions all = Good<StatusOptions>({"status", "--json", "--socket", "/run/c"});
  CHECK(all.socket == "/run/c");
  CHECK(all.format == StatusOptions::Format::kJson);
  CHECK(Good<StatusOptions>({"status", "--balance"}).format == StatusOptions::Format::kBalance);
}

TEST_CASE("the operator's commands take a socket") {
  CHECK(Good<ClientsOptions>({"clients"}).socket.empty());
  CHECK(!Good<ClientsOptions>({"clients"}).json);
  CHECK(Good<ClientsOptions>({"clients", "--json", "--socket", "/run/c"}).json);
  CHECK(Good<ClientsOptions>({"clients", "--socket", "/run/c"}).socket == "/run/c");
  CHECK(Good<CloseOptions>({"close", "0"}).conidx == 0);
  CHECK(Good<CloseOptions>({"close", "0"}).socket.empty());
  const CloseOptions close = Good<CloseOptions>({"close", "--socket", "/run/c", "4294967295"});
  CHECK(close.conidx == UINT32_MAX);
  CHECK(close.socket == "/run/c");
  CHECK(Good<ReloadOptions>({"reload"}).socket.empty());
  CHECK(Good<ReloadOptions>({"reload", "--socket", "/run/c"}).socket == "/run/c");
  CHECK(Good<DrainOptions>({"drain"}).socket.empty());
  CHECK(Good<DrainOptions>({"drain", "--socket", "/run/c"}).socket == "/run/c");
}

TEST_CASE("usage errors say what is wrong and where to look") {
  const std::string serve = "evrelay --help";
  const std::string pub = "evrelay pub --help";
  const std::string sub = "evrelay sub --help";
  for (const std::string command : {"stats", ""}) {
    CheckUsageError({command},
                    "no command \"" + command +
                        "\"; give serve, pub, sub, status, clients, close, reload or drain",
                    serve);
  }
  CheckUsageError({"--bogus"}, "The following argument was not expected: --bogus", serve);
  CheckUsageError({"serve", "now"}, "The following argument was not expected: now", serve);
  CheckUsageError({"--log-level", "loud"},
                  "--log-level: \"loud\" is no level; give debug, info, warn or error", serve);
  for (const std::string workers : {"257", "-1", "+1", "x", "", "4294967296"}) {
    CheckUsageError(
        {"--workers", workers},
        "--workers: \"" + workers + "\" is no number of threads; give a whole number from 0 to 256",
        serve);
  }
  CheckUsageError({"pub", "--tag", "x"}, "The following argument was not expected: --tag", pub);
  CheckUsageError({"pub", "--netstring", "a"},
                  "--netstring: netstrings are read from standard input; leave DATA out", pub);
  for (const std::string option : {"--multicast", "--unicast"}) {
    for (const std::size_t size : {0U, 64U}) {
      CheckUsageError(
          {"pub", option, std::string(size, 't')},
          option + ": the tag has " + std::to_string(size) + " bytes; a tag has 1 to 63", pub);
    }
  }
  CheckUsageError({"pub", "--multicast", "t", "--unicast", "t"},
                  "--multicast and --unicast: give one of them", pub);
  for (const std::string ms : {"0", "-1", "+1", "1.5", "1s", "", "3600001", "4294967297"}) {
    CheckUsageError({"pub", "--async", "--timeout", ms},
                    "--timeout: \"" + ms +
                        "\" is no time; give a whole number of milliseconds from 1 to 3600000",
                    pub);
  }
  CheckUsageError({"pub", "--timeout", "5", "--ack"},
                  "--timeout: only --async waits; give that, too", pub);
  CheckUsageError({"sub", "--json", "--raw"}, "--json, --raw and --netstring: give one of them",
                  sub);
  CheckUsageError({"status", "--json", "--balance"}, "--json and --balance: give one of them",
                  "evrelay status --help");
  CheckUsageError({"close"}, "CONIDX is required", "evrelay close --help");
  for (const std::string conidx : {"x", "-1", "1x", "", "4294967296"}) {
    CheckUsageError(
        {"close", conidx},
        "CONIDX: \"" + conidx + "\" is no conidx; evrelay clients shows them, whole numbers from 0",
        "evrelay close --help");
  }
  CheckUsageError({"sub", "a:1", "b:1"}, "The following argument was not expected: b:1", sub);
  for (const std::string count : {"0", "-1", "x", "1x", "18446744073709551616"}) {
    CheckUsageError({"sub", "--count", count},
                    "--count: \"" + count + "\" is no count; give a whole number from 1", sub);
  }
}

TEST_CASE("flags without their value, given twice or of a later version are refused") {
  for (const Words& words :
       {Words{"-c"}, Words{"-c", "a", "-c", "b"}, Words{"--bind-addr", "a:1", "b:1"},
        Words{"--workers"}, Words{"--script"}, Words{"--script", "a", "--script", "b"},
        Words{"pub", "--socket"}, Words{"pub", "--timeout"}, Words{"pub", "--unicast"},
        Words{"pub", "--multicast", "a", "--multicast", "b"}, Words{"sub", "--send"},
        Words{"status", "x"}, Words{"clients", "x"}, Words{"close", "1", "2"}, Words{"reload", "x"},
        Words{"drain", "x"}, Words{"close", "--json", "1"}, Words{"-c", "a", "pub"}}) {
    CHECK(Exit(words).code == 2);
  }
}

TEST_CASE("help goes to standard output, names every flag and shows an example") {
  struct Help {
    Words words;
    Words flags;
  };
  for (const Help& help :
       std::vector<Help>{{{},
                          {"--config", "--bind-addr", "--workers", "--producer-socket", "--script",
                           "--log-level", "--check", "--version", "--help", "  serve", "  pub",
                           "  sub", "  status", "  clients", "  close", "  reload", "  drain"}},
                         {{"pub"},
                          {"--socket", "--multicast TAG", "--unicast TAG", "--async",
                           "--timeout MS", "--ack", "--netstring", "DATA"}},
                         {{"sub"},
                          {"ADDR", "--count", "--json", "--raw", "--netstring", "--send", "--tls",
                           "--ca", "--cert", "--key", "--server-name"}},
                         {{"status"}, {"--socket", "--json", "--balance"}},
                         {{"clients"}, {"--socket", "--json"}},
                         {{"close"}, {"--socket", "CONIDX"}},
                         {{"reload"}, {"--socket"}},
                         {{"drain"}, {"--socket"}}}) {
    for (const std::string flag : {"--help", "-h"}) {
      Words words = help.words;
      words.push_back(flag);
      const CliExit exit = Exit(words);
      CHECK(exit.code == 0);
      CHECK(exit.err.empty());
      CHECK(exit.out.ends_with("\n"));
      CHECK(exit.out.find("Example:\n  evrelay ") != std::string::npos);
      for (const std::string& name : help.flags) {
        INFO(name);
        CHECK(exit.out.find(name) != std::string::npos);
      }
    }
  }
  CHECK(Exit({"serve", "--help"}).out == Exit({"--help"}).out);
}

TEST_CASE("the version is told") {
  for (const Words& words : {Words{"--version"}, Words{"serve", "--version"}}) {
    const CliExit exit = Exit(words);
    CHECK(exit.code == 0);
    CHECK(exit.out == "evrelay " EVRELAY_VERSION "\n");
    CHECK(exit.err.empty());
  }
}

}  // namespace
}  // namespace evrelay
