#include "cli.h"

#include <CLI/CLI.hpp>
#include <array>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string_view>
#include <utility>

#include "codec/request.h"
#include "config/check.h"
#include "evrelay/action.h"
#include "evrelay/version.h"

namespace evrelay {
namespace {

constexpr std::string_view kServeExamples =
    R"(Commands:
  serve                       run the relay (the default)
  pub [DATA...]               publish events
  sub [ADDR]                  show events as they are relayed
Commands for the relay that runs:
  status                      how it does
  clients                     who is connected
  close CONIDX                end a connection
  reload                      read the configuration and the script again
  drain                       deliver what is due, then end
Each has its own help: evrelay pub --help

Example:
  evrelay -c /etc/evrelay/evrelay.yaml --check
See evrelay(8), evrelay.yaml(5), evrelay-hook(7) and evrelay-protocol(7).)";

constexpr std::string_view kPubExamples =
    R"(Example:
  evrelay pub hello '{"call": 42}'
  tail -F events.log | evrelay pub --ack
  evrelay pub --multicast calls '{"call": 42}'
  evrelay pub --async --timeout 5000 'may I? $T(id_index) $T(id_label)')";

constexpr std::string_view kSubExamples =
    R"(Example:
  evrelay sub 127.0.0.1:8448 --json --count 10
  evrelay sub relay.example.org:8448 --tls --cert desk.pem --key desk-key.pem)";

constexpr std::string_view kStatusExamples =
    R"(Example:
  evrelay status --json)";

constexpr std::string_view kClientsExamples =
    R"(Example:
  evrelay clients --json | jq 'select(.lag > 0)')";

constexpr std::string_view kCloseExamples =
    R"(Example:
  evrelay close 12)";

constexpr std::string_view kReloadExamples =
    R"(Example:
  evrelay reload && echo done)";

constexpr std::string_view kDrainExamples =
    R"(Example:
  evrelay drain && evrelay -c /etc/evrelay/evrelay.yaml)";

constexpr std::array<std::pair<std::string_view, LogLevel>, 4> kLevels{
    {{"debug", LogLevel::kDebug},
     {"info", LogLevel::kInfo},
     {"warn", LogLevel::kWarn},
     {"error", LogLevel::kError}}};

// Options are registered without a variable and read as the strings that were given: bound to a
// vector, CLI11 would take a value such as [1,2] or {} for a list.
class Parser {
 public:
  Parser(std::string name, std::string description, std::string_view examples)
      : name_(name), app_(std::move(description), std::move(name)) {
    app_.set_help_flag("-h,--help", "Print this help");
    app_.set_version_flag("--version", "evrelay " EVRELAY_VERSION "\n", "Print the version");
    app_.footer(std::string(examples));
  }

  void Flag(const std::string& name, bool& to, const std::string& description) {
    app_.add_flag(name, to, description);
  }

  // At most once; `value` is its name in the help text.
  CLI::Option* Option(const std::string& name, const std::string& value,
                      const std::string& description) {
    return app_.add_option(name, CLI::callback_t{}, description)->type_name(value);
  }

  // One value each time it is given.
  CLI::Option* Repeated(const std::string& name, const std::string& value,
                        const std::string& description) {
    return Option(name, value, description)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->allow_extra_args(false);
  }

  // Takes any number of operands besides the options; Operands() gives them. An option of CLI11
  // for them would split a [1,2] as well.
  void AllowOperands(const std::string& shown) { app_.allow_extras()->name(name_ + " " + shown); }

  std::vector<std::string> Operands() const {
    std::vector<std::string> operands;
    bool options_ended = false;
    for (std::string& text : app_.remaining()) {
      if (!options_ended && text == "--") {
        options_ended = true;
      } else if (!options_ended && text.size() > 1 && text[0] == '-') {
        throw CLI::ExtrasError(std::vector{text});
      } else {
        operands.push_back(std::move(text));
      }
    }
    return operands;
  }

  // `read` fills the options once the arguments are known; it may throw a CLI::ParseError.
  template <class Options>
  std::variant<CommandLine, CliExit> Run(int argc, const char* const* argv, Options& options,
                                         const std::function<void()>& read) {
    try {
      app_.parse(argc, argv);
      read();
      return CommandLine{std::move(options)};
    } catch (const CLI::CallForHelp&) {
      return CliExit{0, app_.help(), ""};
    } catch (const CLI::CallForVersion& version) {
      return CliExit{0, version.what(), ""};
    } catch (const CLI::ParseError& error) {
      return CliExit{2, "",
                     "evrelay: " + std::string(error.what()) + "\nTry: " + name_ + " --help\n"};
    }
  }

 private:
  const std::string name_;
  CLI::App app_;
};

std::string Last(const CLI::Option* option, const std::string& otherwise = "") {
  return option->results().empty() ? otherwise : option->results().back();
}

LogLevel ReadLevel(const std::string& text) {
  for (const auto& [name, level] : kLevels) {
    if (text == name) return level;
  }
  throw CLI::ValidationError("--log-level",
                             '"' + text + R"(" is no level; give debug, info, warn or error)");
}

std::uint32_t ReadWorkers(const std::string& text) {
  std::uint32_t workers = 0;
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, workers);
  if (result.ec != std::errc() || result.ptr != end || workers > kMaxWorkers) {
    throw CLI::ValidationError("--workers", '"' + text +
                                                "\" is no number of threads; give a whole number "
                                                "from 0 to " +
                                                std::to_string(kMaxWorkers));
  }
  return workers;
}

std::uint64_t ReadCount(const std::string& text) {
  std::uint64_t count = 0;
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, count);
  if (result.ec != std::errc() || result.ptr != end || count == 0) {
    throw CLI::ValidationError("--count",
                               '"' + text + R"(" is no count; give a whole number from 1)");
  }
  return count;
}

std::chrono::milliseconds ReadTimeout(const std::string& text) {
  std::uint32_t ms = 0;
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, ms);
  if (result.ec != std::errc() || result.ptr != end || ms < 1 || ms > kMaxSuspension.count()) {
    throw CLI::ValidationError("--timeout", '"' + text +
                                                "\" is no time; give a whole number of "
                                                "milliseconds from 1 to " +
                                                std::to_string(kMaxSuspension.count()));
  }
  return std::chrono::milliseconds(ms);
}

std::string ReadTag(const CLI::Option* option) {
  if (option->count() == 0) return "";
  std::string tag = Last(option);
  if (tag.empty() || tag.size() > kMaxTag) {
    throw CLI::ValidationError(option->get_name(), "the tag has " + std::to_string(tag.size()) +
                                                       " bytes; a tag has 1 to " +
                                                       std::to_string(kMaxTag));
  }
  return tag;
}

std::uint32_t ReadConidx(const std::string& text) {
  std::uint32_t conidx = 0;
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, conidx);
  if (result.ec != std::errc() || result.ptr != end) {
    throw CLI::ValidationError(
        "CONIDX",
        '"' + text + R"(" is no conidx; evrelay clients shows them, whole numbers from 0)");
  }
  return conidx;
}

std::variant<CommandLine, CliExit> ParseServe(int argc, const char* const* argv) {
  ServeOptions options;
  Parser parser("evrelay", "Relay events from producers to every TCP subscriber, in netstrings.",
                kServeExamples);
  const CLI::Option* file =
      parser.Option("-c,--config", "FILE", "Configuration file (else: the defaults)");
  const CLI::Option* bind =
      parser.Repeated("--bind-addr", "ADDR", "Listen here for subscribers (repeatable)");
  const CLI::Option* workers =
      parser.Option("--workers", "N", "Threads that run the script (default 1)");
  const CLI::Option* socket =
      parser.Option("--producer-socket", "PATH", "Listen here for producers");
  const CLI::Option* script =
      parser.Option("--script", "FILE", "Lua script that hears subscribers' messages");
  const CLI::Option* level = parser.Option("--log-level", "LEVEL", "debug, info, warn or error");
  parser.Flag("--check", options.check,
              "Check the configuration, print ok or its errors, and exit");
  return parser.Run(argc, argv, options, [&] {
    if (file->count() > 0) options.config_file = Last(file);
    options.bind_addr = bind->results();
    if (workers->count() > 0) options.workers = ReadWorkers(Last(workers));
    if (socket->count() > 0) options.producer_socket = Last(socket);
    if (script->count() > 0) options.script = Last(script);
    if (level->count() > 0) options.log_level = ReadLevel(Last(level));
  });
}

std::variant<CommandLine, CliExit> ParsePub(int argc, const char* const* argv) {
  PubOptions options;
  Parser parser("evrelay pub",
                "Publish each DATA as one event; without DATA, each line of standard input.\n"
                "Put -- before DATA that starts with a dash.",
                kPubExamples);
  const CLI::Option* socket = parser.Option(
      "--socket", "PATH", "The relay's producer socket (else $EVRELAY_SOCKET, else its default)");
  const CLI::Option* multicast =
      parser.Option("--multicast", "TAG", "Only for the subscribers that have this tag");
  const CLI::Option* unicast =
      parser.Option("--unicast", "TAG", "Only for the first subscriber that has this tag");
  parser.Flag("--async", options.async,
              "Wait until a hook resumes each event, and print what it says");
  const CLI::Option* timeout = parser.Option(
      "--timeout", "MS", "Wait so long with --async (else the relay's async.timeout)");
  parser.Flag("--ack", options.ack, "Have each event confirmed by the relay");
  parser.Flag("--netstring", options.netstring,
              "Standard input and the output of --async hold netstrings, not lines");
  parser.AllowOperands("[DATA...]");
  return parser.Run(argc, argv, options, [&] {
    options.socket = Last(socket);
    options.multicast = ReadTag(multicast);
    options.unicast = ReadTag(unicast);
    options.data = parser.Operands();
    if (multicast->count() + unicast->count() > 1) {
      throw CLI::ValidationError("--multicast and --unicast", "give one of them");
    }
    if (timeout->count() > 0) {
      options.timeout = ReadTimeout(Last(timeout));
      if (!options.async) {
        throw CLI::ValidationError("--timeout", "only --async waits; give that, too");
      }
    }
    if (options.netstring && !options.data.empty()) {
      throw CLI::ValidationError("--netstring",
                                 "netstrings are read from standard input; leave DATA out");
    }
  });
}

std::variant<CommandLine, CliExit> ParseSub(int argc, const char* const* argv) {
  SubOptions options;
  bool json = false;
  bool raw = false;
  bool netstring = false;
  Parser parser("evrelay sub", "Show events as a subscriber gets them, one a line.", kSubExamples);
  const CLI::Option* address = parser.Option(
      "ADDR", "", "host:port, [IPv6]:port or unix:/path (default " + options.address + ")");
  const CLI::Option* count = parser.Option("--count", "N", "End after N events");
  parser.Flag("--json", json, "One JSON object a line: time and data");
  parser.Flag("--raw", raw, "The bytes of the events and nothing else");
  parser.Flag("--netstring", netstring, "Netstrings, as they come");
  const CLI::Option* send =
      parser.Repeated("--send", "TEXT", "Send this message once connected (repeatable)");
  bool tls = false;
  parser.Flag("--tls", tls, "Speak TLS, and make sure that it is the relay");
  const CLI::Option* ca = parser.Option(
      "--ca", "FILE", "Who signs the relay's certificate (else whom the system trusts)");
  const CLI::Option* cert =
      parser.Option("--cert", "FILE", "The certificate to show if the relay asks for one");
  const CLI::Option* key = parser.Option("--key", "FILE", "Its private key");
  const CLI::Option* server_name = parser.Option(
      "--server-name", "NAME", "Whom the relay's certificate must be for (else ADDR's host)");
  return parser.Run(argc, argv, options, [&] {
    if (cert->count() != key->count()) {
      throw CLI::ValidationError("--cert and --key", "give both or none of them");
    }
    for (const CLI::Option* option : {ca, cert, server_name}) {
      if (option->count() > 0 && !tls) {
        throw CLI::ValidationError(option->get_name(), "this is for TLS; give --tls, too");
      }
    }
    if (tls) options.tls = TlsClientConfig{Last(ca), Last(cert), Last(key)};
    options.server_name = Last(server_name);
    options.address = Last(address, options.address);
    if (count->count() > 0) options.count = ReadCount(Last(count));
    if (json + raw + netstring > 1) {
      throw CLI::ValidationError("--json, --raw and --netstring", "give one of them");
    }
    if (json) options.format = SubOptions::Format::kJson;
    if (raw) options.format = SubOptions::Format::kRaw;
    if (netstring) options.format = SubOptions::Format::kNetstring;
    options.send = send->results();
  });
}

const CLI::Option* ControlSocket(Parser& parser) {
  return parser.Option("--socket", "PATH",
                       "The relay's control socket (else control.sock beside the producers')");
}

std::variant<CommandLine, CliExit> ParseStatus(int argc, const char* const* argv) {
  StatusOptions options;
  bool json = false;
  bool balance = false;
  Parser parser("evrelay status", "Ask the running relay how it does.", kStatusExamples);
  const CLI::Option* socket = ControlSocket(parser);
  parser.Flag("--json", json, "Everything, as one JSON object");
  parser.Flag("--balance", balance, "Check that its books balance; exit code 1 when they do not");
  return parser.Run(argc, argv, options, [&] {
    options.socket = Last(socket);
    if (json && balance) throw CLI::ValidationError("--json and --balance", "give one of them");
    if (json) options.format = StatusOptions::Format::kJson;
    if (balance) options.format = StatusOptions::Format::kBalance;
  });
}

std::variant<CommandLine, CliExit> ParseClients(int argc, const char* const* argv) {
  ClientsOptions options;
  Parser parser("evrelay clients", "Show who is connected to the running relay.", kClientsExamples);
  const CLI::Option* socket = ControlSocket(parser);
  parser.Flag("--json", options.json, "One JSON object a line");
  return parser.Run(argc, argv, options, [&] { options.socket = Last(socket); });
}

std::variant<CommandLine, CliExit> ParseClose(int argc, const char* const* argv) {
  CloseOptions options;
  Parser parser("evrelay close",
                "End a subscriber's connection in good order: what is due to it is delivered.",
                kCloseExamples);
  const CLI::Option* socket = ControlSocket(parser);
  const CLI::Option* conidx =
      parser.Option("CONIDX", "", "Its number, as evrelay clients shows it")->required();
  return parser.Run(argc, argv, options, [&] {
    options.socket = Last(socket);
    options.conidx = ReadConidx(Last(conidx));
  });
}

std::variant<CommandLine, CliExit> ParseReload(int argc, const char* const* argv) {
  ReloadOptions options;
  Parser parser("evrelay reload",
                "Have the running relay read its configuration and its script again, and wait for\n"
                "that. If they are not right nothing changes and their errors are shown.",
                kReloadExamples);
  const CLI::Option* socket = ControlSocket(parser);
  return parser.Run(argc, argv, options, [&] { options.socket = Last(socket); });
}

std::variant<CommandLine, CliExit> ParseDrain(int argc, const char* const* argv) {
  DrainOptions options;
  Parser parser("evrelay drain",
                "Have the running relay take nothing more, deliver what is due and end, and wait\n"
                "for that.",
                kDrainExamples);
  const CLI::Option* socket = ControlSocket(parser);
  return parser.Run(argc, argv, options, [&] { options.socket = Last(socket); });
}

}  // namespace

std::variant<CommandLine, CliExit> ParseCommandLine(int argc, const char* const* argv) {
  const std::string_view command = argc > 1 ? argv[1] : "--";
  if (command.starts_with('-')) return ParseServe(argc, argv);
  if (command == "serve") return ParseServe(argc - 1, argv + 1);
  if (command == "pub") return ParsePub(argc - 1, argv + 1);
  if (command == "sub") return ParseSub(argc - 1, argv + 1);
  if (command == "status") return ParseStatus(argc - 1, argv + 1);
  if (command == "clients") return ParseClients(argc - 1, argv + 1);
  if (command == "close") return ParseClose(argc - 1, argv + 1);
  if (command == "reload") return ParseReload(argc - 1, argv + 1);
  if (command == "drain") return ParseDrain(argc - 1, argv + 1);
  return CliExit{2, "",
                 "evrelay: no command \"" + std::string(command) +
                     "\"; give serve, pub, sub, status, clients, close, reload or drain\n"
                     "Try: evrelay --help\n"};
}

void ApplyFlags(const ServeOptions& flags, Config& config) {
  if (!flags.bind_addr.empty()) {
    config.bind_addr.clear();
    for (const std::string& addr : flags.bind_addr) config.bind_addr.push_back({addr, {}, {}});
  }
  if (flags.workers) config.workers = *flags.workers;
  if (flags.producer_socket) config.producer.socket = *flags.producer_socket;
  if (flags.script) config.script = *flags.script;
  if (flags.log_level) config.log.level = *flags.log_level;
}

}  // namespace evrelay
