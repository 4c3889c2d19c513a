#include "client/status.h"

#include <errno.h>
#include <poll.h>

#include <charconv>
#include <chrono>
#include <cstddef>
#include <exception>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <system_error>

#include "client/client.h"
#include "codec/framing.h"
#include "evrelay/netstring.h"

namespace evrelay {

namespace {

using nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

// A relay that lives answers within milliseconds.
constexpr std::chrono::seconds kAnswerTimeout{10};

// Width of the table's first column, longest name and indent included.
constexpr std::size_t kNameWidth = 18;

// Asks for the status document and returns it as it came. Throws.
std::string Ask(Client& client) {
  const std::string request = netstring::EncodeList({"status"});
  std::string_view unsent = request;
  const Clock::time_point deadline = Clock::now() + kAnswerTimeout;
  while (true) {
    // A relay that no longer listens has left its reason to be read.
    if (!client.Send(unsent)) unsent = {};
    switch (client.Receive()) {
      case Client::Receipt::kBytes:
        break;
      case Client::Receipt::kNothing: {
        using std::chrono::milliseconds;
        const auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now());
        if (left <= milliseconds::zero()) {
          throw std::runtime_error("the relay did not answer within 10 s");
        }
        pollfd ready{client.fd(), POLLIN, 0};
        if (!unsent.empty()) ready.events |= POLLOUT;
        ::poll(&ready, 1, static_cast<int>(left.count()));
        continue;
      }
      case Client::Receipt::kEof:
      case Client::Receipt::kBroken:
        throw std::runtime_error("the relay closed the connection without an answer");
    }
    const FrameReader::Item item = client.Next();
    if (item.kind == FrameReader::Kind::kMore) continue;
    std::optional<Answer> answer;
    if (item.kind == FrameReader::Kind::kFrame) answer = ParseAnswer(item);
    if (answer && !answer->ok) {
      std::string trouble = std::string(answer->code) + ": " + std::string(answer->text);
      // The control port always knows `status`, the producer port never does.
      if (answer->code == "unknown-verb") {
        trouble += "\nthis looks like the producer socket; status takes the control socket";
      }
      throw std::runtime_error(trouble);
    }
    if (!answer || !answer->argument) {
      throw std::runtime_error("what answers at this socket is not the control port of evrelay");
    }
    return std::string(*answer->argument);
  }
}

std::string Text(const ordered_json& value) {
  if (value.is_null()) return "none";
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) {
    char text[32];
    const auto [end, error] =
        std::to_chars(text, text + sizeof text, value.get<double>(), std::chars_format::fixed, 1);
    return error == std::errc() ? std::string(text, end) : value.dump();
  }
  if (!value.is_array()) return value.dump();
  std::string text;
  for (const ordered_json& item : value) {
    if (!text.empty()) text += ", ";
    text += Text(item);
  }
  return text;
}

void AppendRow(std::string& out, std::string name, const std::string& text) {
  if (name.size() < kNameWidth) name.resize(kNameWidth, ' ');
  out += name + text + "\n";
}

std::string Pair(const std::string& name, const ordered_json& value) {
  return name + " " + Text(value);
}

// The values of a group in one row, each map of reasons in a row of its own that leaves out zeros.
void AppendGroup(std::string& out, const std::string& name, const ordered_json& group) {
  std::string values;
  std::string maps;
  for (const auto& [key, value] : group.items()) {
    if (!value.is_object()) {
      values += (values.empty() ? "" : ", ") + Pair(key, value);
      continue;
    }
    std::string counts;
    for (const auto& [reason, count] : value.items()) {
      if (count != 0) counts += (counts.empty() ? "" : ", ") + Pair(reason, count);
    }
    if (!counts.empty()) AppendRow(maps, "  " + key, counts);
  }
  AppendRow(out, name, values);
  out += maps;
}

std::string Table(const ordered_json& status) {
  std::string out;
  for (const auto& [name, value] : status.items()) {
    if (value.is_object()) {
      AppendGroup(out, name, value);
    } else {
      AppendRow(out, name, Text(value));
    }
  }
  return out;
}

}  // namespace

int RunStatus(const StatusOptions& options, const Streams& streams) {
  try {
    Client client = ConnectControl(options.socket);
    const ordered_json status = ordered_json::parse(Ask(client));
    const std::string text = options.json ? status.dump(2) + "\n" : Table(status);
    if (const int error = WriteAll(streams.out, text); error != 0) {
      throw std::system_error(error, std::generic_category(), "standard output");
    }
    return 0;
  } catch (const std::exception& error) {
    WriteAll(streams.err, "evrelay status: " + std::string(error.what()) + "\n");
    return 1;
  }
}

}  // namespace evrelay
