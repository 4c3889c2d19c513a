#include "client/status.h"

#include <nlohmann/json.hpp>

#include "client/balance.h"
#include "client/control.h"
#include "client/status_table.h"

namespace evrelay {

int RunStatus(const StatusOptions& options, const Streams& streams) {
  return RunCommand("status", streams, [&] {
    const auto status = nlohmann::ordered_json::parse(Control(options.socket).Ask({"status"}));
    switch (options.format) {
      case StatusOptions::Format::kTable:
        Print(streams, StatusTable(status));
        break;
      case StatusOptions::Format::kJson:
        Print(streams, status.dump(2, ' ', true) + "\n");
        break;
      case StatusOptions::Format::kBalance: {
        const Balance balance = CheckBalance(status);
        Print(streams, balance.text);
        return balance.holds ? 0 : 1;
      }
    }
    return 0;
  });
}

}  // namespace evrelay
