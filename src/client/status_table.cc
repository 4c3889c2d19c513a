#include "client/status_table.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "client/event_format.h"
#include "client/human.h"

namespace evrelay {

namespace {

using Json = nlohmann::ordered_json;

// The column of the names, mark and indent included.
constexpr std::size_t kNameWidth = 17;

// An older relay may not tell everything: what is missing reads as nothing.
Json Group(const Json& object, const char* key) { return object.value(key, Json::object()); }

std::uint64_t Count(const Json& object, const char* key) {
  return object.value(key, std::uint64_t{0});
}

// A string or a list of strings, fit for a terminal.
std::string Text(const Json& object, const char* key) {
  const Json value = object.value(key, Json());
  std::string text;
  if (value.is_string()) AppendEscaped(text, value.get<std::string>());
  if (!value.is_array()) return text;
  for (const Json& item : value) {
    if (!text.empty()) text += ", ";
    AppendEscaped(text, item.get<std::string>());
  }
  return text;
}

// Words with commas between them, without those that count nothing.
class Words {
 public:
  Words& Add(const std::string& words) {
    if (!words.empty()) text_ += (text_.empty() ? "" : ", ") + words;
    return *this;
  }
  Words& AddCount(std::uint64_t count, std::string_view what) {
    return count == 0 ? *this : Add(std::to_string(count) + " " + std::string(what));
  }
  Words& AddBytes(std::uint64_t bytes, std::string_view what = "") {
    return bytes == 0 ? *this : Add(HumanBytes(bytes) + std::string(what));
  }
  // A group of counts, by name.
  Words& AddNames(const Json& counts) {
    for (const auto& [name, count] : counts.items()) {
      if (count != 0) Add(name + " " + count.dump());
    }
    return *this;
  }

  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

bool AnyBut(std::initializer_list<std::string_view> ordinary, const Json& counts) {
  for (const auto& [name, count] : counts.items()) {
    if (count == 0) continue;
    if (std::find(ordinary.begin(), ordinary.end(), name) == ordinary.end()) return true;
  }
  return false;
}

class Table {
 public:
  // No row without words. `look`: it deserves a look.
  void Row(std::string_view name, const Words& words, bool look = false) {
    if (words.text().empty()) return;
    std::string head = (look ? "! " : "  ") + std::string(name);
    head.resize(std::max(kNameWidth, head.size() + 1), ' ');
    out_ += head + words.text() + "\n";
    looks_ = looks_ || look;
  }
  void Gap() { out_ += "\n"; }

  std::string Finish() {
    if (looks_) out_ += "\n! deserves a look: evrelay-protocol(7) says what the words mean\n";
    return std::move(out_);
  }

 private:
  std::string out_;
  bool looks_ = false;
};

void AddRelay(Table& table, const Json& status) {
  const std::chrono::duration<double> uptime(status.value("uptime_s", 0.0));
  const std::string state = Text(status, "state");
  table.Row("evrelay",
            Words()
                .Add(Text(status, "version"))
                .Add(state + " for " + HumanTime(std::chrono::floor<std::chrono::seconds>(uptime)))
                .Add("pid " + std::to_string(Count(status, "pid"))),
            state != "running");
  table.Row("subscribers at", Words().Add(Text(status, "listen")));
  table.Row("producers at", Words().Add(Text(status, "producer_socket")));

  const Json hook = Group(status, "hook");
  const std::string script = Text(hook, "script");
  if (script.empty()) return;
  const std::uint64_t workers = Count(hook, "workers");
  const std::uint64_t stuck = Count(hook, "stuck_workers");
  table.Row("script",
            Words()
                .Add(script)
                .AddCount(workers, workers == 1 ? "worker" : "workers")
                .AddCount(stuck, "stuck"),
            stuck != 0);
}

void AddPeers(Table& table, const Json& status) {
  const Json subscribers = Group(status, "subscribers");
  const Json ended = Group(subscribers, "closed");
  table.Row("subscribers", Words()
                               .Add(std::to_string(Count(subscribers, "live")) + " live")
                               .AddCount(Count(subscribers, "admitting"), "being admitted")
                               .AddCount(Count(subscribers, "blocked"), "blocked")
                               .AddCount(Count(subscribers, "closing"), "closing")
                               .AddBytes(Count(Group(status, "log"), "max_lag"), " behind at most")
                               .AddCount(Count(subscribers, "accepted"), "accepted so far"));
  table.Row("  closed", Words().AddNames(ended),
            AnyBut({"eof", "reset", "hook", "drain", "admin"}, ended));
  table.Row("  turned away", Words().AddNames(Group(subscribers, "refused")), true);
  table.Row("  kept waiting",
            Words().AddCount(Count(Group(status, "loop"), "accept_pauses"), "times"), true);
  const Json tls = Group(status, "tls");
  table.Row("TLS", Words()
                       .AddCount(Count(tls, "handshaking"), "in their handshake")
                       .AddCount(Count(tls, "accepted"), "accepted so far"));
  table.Row("  failed", Words().AddNames(Group(tls, "failed")), true);

  const Json producers = Group(status, "producers");
  const Json left = Group(producers, "closed");
  table.Row("producers", Words()
                             .Add(std::to_string(Count(producers, "connected")) + " connected")
                             .AddCount(Count(producers, "accepted"), "accepted so far"));
  table.Row("  closed", Words().AddNames(left), AnyBut({"eof", "reset", "drain"}, left));
  table.Row("  turned away", Words().AddNames(Group(producers, "refused")), true);
  table.Row("  held back", Words().AddCount(Count(Group(status, "loop"), "holds"), "times"), true);
}

void AddEvents(Table& table, const Json& status) {
  const Json events = Group(status, "events");
  const Json accepted = Group(Group(status, "requests"), "accepted");
  const Json actions = Group(Group(status, "hook"), "actions");
  const auto tagged = [&](const std::string& verb) {
    return Count(accepted, verb.c_str()) + Count(accepted, ("async_" + verb).c_str()) +
           Count(actions, verb.c_str());
  };
  table.Row("events", Words()
                          .Add(std::to_string(Count(events, "relayed")) + " relayed to all")
                          .AddBytes(Count(events, "bytes"))
                          .AddCount(tagged("multicast"), "multicast")
                          .AddCount(tagged("unicast"), "unicast"));
  table.Row("  denied", Words().AddCount(Count(events, "denied"), "by producer.allow"), true);

  const Json deliveries = Group(status, "deliveries");
  table.Row("deliveries", Words()
                              .AddCount(Count(deliveries, "due"), "due")
                              .AddCount(Count(deliveries, "written"), "written")
                              .AddCount(Count(deliveries, "queued"), "queued"));
  table.Row("  dropped", Words().AddNames(Group(deliveries, "dropped")), true);
}

void AddScript(Table& table, const Json& status) {
  const Json messages = Group(status, "messages");
  table.Row("messages", Words()
                            .AddCount(Count(messages, "received"), "received")
                            .AddBytes(Count(messages, "bytes"))
                            .AddCount(Count(messages, "handled"), "handled")
                            .AddCount(Count(messages, "unhandled"), "wait for the script"));
  table.Row("  dropped", Words().AddNames(Group(messages, "dropped")));
  table.Row("bad frames", Words().AddBytes(Count(messages, "discarded_bytes"), " discarded"), true);

  const Json hook = Group(status, "hook");
  table.Row("hook runs", Words().AddNames(Group(hook, "runs")));
  table.Row("  failed", Words().AddNames(Group(hook, "failed")), true);
  table.Row("  actions", Words()
                             .AddNames(Group(hook, "actions"))
                             .AddCount(Count(hook, "stale_actions"), "came too late")
                             .AddCount(Count(hook, "lost_actions"), "lost for want of memory"));
}

void AddRequests(Table& table, const Json& status) {
  const Json requests = Group(status, "requests");
  const Json errors = Group(requests, "errors");
  table.Row("requests", Words().AddNames(Group(requests, "accepted")));
  table.Row("request errors", Words().AddNames(errors),
            AnyBut({"no-subscriber", "draining"}, errors));
  table.Row("answers", Words().AddCount(Count(requests, "undeliverable"), "undeliverable"));

  const Json async = Group(status, "async");
  table.Row("async", Words()
                         .AddCount(Count(async, "suspended"), "suspended")
                         .AddCount(Count(async, "waiting"), "waiting now")
                         .AddCount(Count(async, "resumed"), "resumed")
                         .AddCount(Count(async, "expired"), "expired")
                         .AddCount(Count(async, "drained"), "drained")
                         .AddCount(Count(async, "abandoned"), "abandoned")
                         .AddCount(Count(async, "refused"), "resumes refused"));
}

}  // namespace

std::string StatusTable(const Json& status) {
  Table table;
  AddRelay(table, status);
  table.Gap();
  AddPeers(table, status);
  AddEvents(table, status);
  AddScript(table, status);
  AddRequests(table, status);
  return table.Finish();
}

}  // namespace evrelay
