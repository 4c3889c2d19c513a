#include "client/clients.h"

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <vector>

#include "client/control.h"
#include "client/event_format.h"
#include "client/human.h"

namespace evrelay {

namespace {

using Json = nlohmann::ordered_json;

// Lag and messages are zero for most, and are to leap out where they are not.
TableRow RowOf(const Json& client) {
  const auto lag = client.at("lag").get<std::uint64_t>();
  const auto unhandled = client.at("unhandled").get<std::uint64_t>();
  const auto age = std::chrono::duration<double>(client.at("age_s").get<double>());
  std::string tag;
  AppendEscaped(tag, client.at("tag").get<std::string>());
  return {std::to_string(client.at("conidx").get<std::uint64_t>()),
          client.at("state").get<std::string>(),
          HumanTime(std::chrono::floor<std::chrono::seconds>(age)),
          lag == 0 ? "-" : HumanBytes(lag),
          unhandled == 0 ? "-" : std::to_string(unhandled),
          client.at("address").get<std::string>(),
          tag};
}

const TableRow kHeader{"CONIDX", "STATE", "AGE", "LAG", "UNHANDLED", "ADDRESS", "TAG"};
const std::vector<bool> kFlushRight{true, false, true, true, true};

}  // namespace

int RunClients(const ClientsOptions& options, const Streams& streams) {
  return RunCommand("clients", streams, [&] {
    Control control(options.socket);
    std::vector<TableRow> rows{kHeader};
    std::uint64_t from = 0;
    while (true) {
      const Json part = Json::parse(control.Ask({"clients", std::to_string(from)}));
      std::string lines;
      for (const Json& client : part.at("clients")) {
        if (options.json) {
          lines += client.dump(-1, ' ', true) + "\n";
        } else {
          rows.push_back(RowOf(client));
        }
      }
      Print(streams, lines);
      if (part.at("next").is_null()) break;
      from = part.at("next").get<std::uint64_t>();
    }
    if (options.json) return 0;
    Print(streams,
          rows.size() == 1 ? "no subscriber is connected\n" : AlignedTable(rows, kFlushRight));
    return 0;
  });
}

}  // namespace evrelay
