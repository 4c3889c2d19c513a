// The equations of evrelay status --balance.

#include <nlohmann/json.hpp>

#include "client/balance.h"
#include "support/catch.h"

namespace evrelay {
namespace {

nlohmann::ordered_json Status() {
  return nlohmann::ordered_json::parse(R"({
    "deliveries": {"due": 12, "written": 7, "queued": 3, "dropped": {"closing": 0, "drain": 2}},
    "messages": {"received": 5, "bytes": 99, "unhandled": 1, "handled": 4,
                 "dropped": {"no-hook": 0, "after-close": 0}},
    "async": {"suspended": 15, "resumed": 1, "expired": 2, "drained": 3, "abandoned": 4,
              "waiting": 5}})");
}

TEST_CASE("books that balance") {
  const Balance balance = CheckBalance(Status());
  CHECK(balance.holds);
  CHECK(
      balance.text ==
      R"(deliveries  due 12 = written 7 + queued 3 + dropped 2                                   ok
messages    received 5 = handled 4 + unhandled 1 + dropped 0                            ok
async       suspended 15 = waiting 5 + resumed 1 + expired 2 + drained 3 + abandoned 4  ok
)");
}

TEST_CASE("books that do not balance, by more or by less") {
  struct Fault {
    const char* figure;
    std::uint64_t value;
    const char* verdict;
  };
  for (const Fault& fault :
       {Fault{"/deliveries/due", 13, "OFF BY 1"}, Fault{"/deliveries/written", 10, "OFF BY 3"},
        Fault{"/deliveries/queued", 0, "OFF BY 3"},
        Fault{"/deliveries/dropped/drain", 0, "OFF BY 2"},
        Fault{"/messages/received", 0, "OFF BY 5"}, Fault{"/messages/handled", 5, "OFF BY 1"},
        Fault{"/messages/unhandled", 3, "OFF BY 2"},
        Fault{"/messages/dropped/after-close", 7, "OFF BY 7"},
        Fault{"/async/suspended", 14, "OFF BY 1"}, Fault{"/async/resumed", 0, "OFF BY 1"},
        Fault{"/async/expired", 0, "OFF BY 2"}, Fault{"/async/drained", 0, "OFF BY 3"},
        Fault{"/async/abandoned", 0, "OFF BY 4"}, Fault{"/async/waiting", 0, "OFF BY 5"}}) {
    INFO(fault.figure);
    nlohmann::ordered_json status = Status();
    status[nlohmann::ordered_json::json_pointer(fault.figure)] = fault.value;
    const Balance balance = CheckBalance(status);
    CHECK(!balance.holds);
    CHECK(balance.text.find(std::string("  ") + fault.verdict + "\n") != std::string::npos);
    CHECK(balance.text.find("  ok\n") != std::string::npos);
  }
}

TEST_CASE("a figure that is not told is no balance") {
  for (const char* group : {"deliveries", "messages", "async"}) {
    nlohmann::ordered_json status = Status();
    status.erase(group);
    CHECK_THROWS_AS(CheckBalance(status), nlohmann::json::exception);
  }
  nlohmann::ordered_json status = Status();
  status["async"].erase("waiting");
  CHECK_THROWS_AS(CheckBalance(status), nlohmann::json::exception);
}

}  // namespace
}  // namespace evrelay
