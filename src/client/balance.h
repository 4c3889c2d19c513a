// Whether the books of the relay balance: the invariants of metrics/counters.h as equations with
// their figures. Pure functions of the status document.

#ifndef EVRELAY_CLIENT_BALANCE_H_
#define EVRELAY_CLIENT_BALANCE_H_

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace evrelay {

struct Balance {
  std::string text;  // an equation a line, and `ok` or by how much it is off
  bool holds = true;
};

// Throws nlohmann::json::exception when a figure is missing.
Balance CheckBalance(const nlohmann::ordered_json& status);

}  // namespace evrelay

#endif  // EVRELAY_CLIENT_BALANCE_H_
