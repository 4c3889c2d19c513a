#include "client/balance.h"

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <vector>

#include "client/human.h"

namespace evrelay {

namespace {

using Json = nlohmann::ordered_json;

struct Equation {
  const char* group;
  const char* whole;
  std::vector<const char*> parts;
};

const std::vector<Equation> kEquations{
    {"deliveries", "due", {"written", "queued", "dropped"}},
    {"messages", "received", {"handled", "unhandled", "dropped"}},
    {"async", "suspended", {"waiting", "resumed", "expired", "drained", "abandoned"}},
};

// A number, or the sum of those of a group.
std::uint64_t Figure(const Json& value) {
  if (!value.is_object()) return value.get<std::uint64_t>();
  std::uint64_t sum = 0;
  for (const Json& part : value) sum += part.get<std::uint64_t>();
  return sum;
}

}  // namespace

Balance CheckBalance(const Json& status) {
  Balance balance;
  std::vector<TableRow> rows;
  for (const Equation& equation : kEquations) {
    const Json& group = status.at(equation.group);
    const std::uint64_t whole = Figure(group.at(equation.whole));
    std::uint64_t sum = 0;
    std::string text = std::string(equation.whole) + " " + std::to_string(whole);
    std::string sign = " = ";
    for (const char* part : equation.parts) {
      const std::uint64_t figure = Figure(group.at(part));
      text += sign + part + " " + std::to_string(figure);
      sum += figure;
      sign = " + ";
    }
    std::string verdict = "ok";
    if (whole != sum) {
      verdict = "OFF BY " + std::to_string(whole > sum ? whole - sum : sum - whole);
      balance.holds = false;
    }
    rows.push_back({equation.group, text, verdict});
  }
  balance.text = AlignedTable(rows, {});
  return balance;
}

}  // namespace evrelay
