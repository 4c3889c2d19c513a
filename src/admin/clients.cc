#include "admin/clients.h"

#include <chrono>
#include <nlohmann/json.hpp>
#include <string_view>

namespace evrelay {

namespace {

using Json = nlohmann::ordered_json;

std::string_view Name(Connection::State state) {
  switch (state) {
    case Connection::State::kAdmitting:
      return "admitting";
    case Connection::State::kLive:
      return "live";
    case Connection::State::kEnding:
      return "ending";
    case Connection::State::kClosing:
      break;
  }
  return "closing";
}

}  // namespace

std::string ClientsJson(const Hub& hub, std::uint32_t from, std::size_t most) {
  using std::chrono::milliseconds;
  const auto now = std::chrono::steady_clock::now();
  Json clients = Json::array();
  const Connection* connection = hub.FirstFrom(from);
  while (connection != nullptr && clients.size() < most) {
    const auto age = std::chrono::floor<milliseconds>(now - connection->accepted());
    const std::uint32_t conidx = connection->id().conidx;
    clients.push_back({
        {"conidx", conidx},
        {"address", connection->Peer()},
        {"peer_name", connection->PeerName()},
        {"tag", hub.TagOf(*connection)},
        {"state", Name(connection->state())},
        {"age_s", static_cast<double>(age.count()) / 1000},
        {"lag", hub.LagOf(*connection)},
        {"unhandled", connection->Unhandled()},
    });
    connection = hub.FirstFrom(conidx + 1);
  }
  Json answer = {{"clients", std::move(clients)}, {"next", nullptr}};
  if (connection != nullptr) answer["next"] = connection->id().conidx;
  // A tag need not be UTF-8.
  return answer.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace evrelay
