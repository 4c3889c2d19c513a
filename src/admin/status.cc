#include "admin/status.h"

#include <unistd.h>

#include <nlohmann/json.hpp>

#include "evrelay/version.h"

namespace evrelay {

namespace {

using Json = nlohmann::ordered_json;

template <class Reason, std::size_t N>
Json ByReason(const ReasonCounts<Reason>& counts, const std::array<std::string_view, N>& names) {
  Json out = Json::object();
  for (std::size_t i = 0; i < N; ++i) {
    out[std::string(names[i])] = counts[static_cast<Reason>(i)];
  }
  return out;
}

}  // namespace

std::string StatusJson(const StatusFacts& facts, const Counters& counters, Hub& hub) {
  const Json status = {
      {"version", EVRELAY_VERSION},
      {"pid", getpid()},
      {"uptime_s", std::chrono::duration<double>(facts.uptime).count()},
      {"state", facts.state},
      {"listen", facts.listen},
      {"producer_socket", facts.producer_socket},
      {"control_socket", facts.control_socket},
      {"subscribers",
       {{"live", hub.live()},
        {"admitting", hub.admitting()},
        {"closing", hub.connections() - hub.live()},
        {"blocked", hub.blocked()},
        {"accepted", counters.subscribers.accepted},
        {"refused", ByReason(counters.subscribers.refused, kRefuseReasonNames)},
        {"closed", ByReason(counters.subscribers.closed, kCloseReasonNames)}}},
      {"tls",
       {{"handshaking", counters.tls.handshaking},
        {"accepted", counters.tls.accepted},
        {"failed", ByReason(counters.tls.failed, kTlsFailureNames)}}},
      {"producers",
       {{"connected", facts.producers},
        {"accepted", counters.producers.accepted},
        {"refused", ByReason(counters.producers.refused, kRefuseReasonNames)},
        {"closed", ByReason(counters.producers.closed, kCloseReasonNames)}}},
      {"events",
       {{"relayed", counters.events.relayed},
        {"bytes", counters.events.bytes},
        {"denied", counters.events.denied}}},
      {"deliveries",
       {{"due", counters.deliveries.due},
        {"written", counters.deliveries.written},
        {"queued", hub.Queued()},
        {"dropped", ByReason(counters.deliveries.dropped, kDropReasonNames)}}},
      {"messages",
       {{"received", counters.messages.received},
        {"bytes", counters.messages.bytes},
        {"discarded_bytes", counters.messages.discarded_bytes},
        {"unhandled", counters.messages.unhandled},
        {"handled", counters.hook.runs[HookEventKind::kMessageReceived]},
        {"dropped",
         {{"no-hook", counters.messages.dropped_no_hook},
          {"after-close", counters.messages.dropped_after_close}}}}},
      {"hook",
       {{"script", facts.script.empty() ? Json() : Json(facts.script)},
        {"workers", facts.workers},
        {"stuck_workers", facts.stuck_workers},
        {"runs", ByReason(counters.hook.runs, kHookEventNames)},
        {"failed",
         {{"error", counters.hook.failed[HookOutcome::kError]},
          {"timeout", counters.hook.failed[HookOutcome::kTimeout]},
          {"memory", counters.hook.failed[HookOutcome::kMemory]}}},
        {"actions",
         {{"relay", counters.hook.actions.relay},
          {"multicast", counters.hook.actions.multicast},
          {"unicast", counters.hook.actions.unicast},
          {"resume", counters.hook.actions.resume},
          {"reply", counters.hook.actions.reply},
          {"close", counters.hook.actions.close},
          {"set_tag", counters.hook.actions.set_tag}}},
        {"stale_actions", counters.hook.stale_actions},
        {"lost_actions", counters.hook.lost_actions}}},
      {"requests",
       {{"accepted", ByReason(counters.requests.accepted, kVerbNames)},
        {"errors", ByReason(counters.requests.errors, kErrorCodeNames)},
        {"undeliverable", counters.requests.undeliverable}}},
      {"async",
       {{"suspended", counters.async.suspended},
        {"resumed", counters.async.resumed},
        {"expired", counters.async.expired},
        {"drained", counters.async.drained},
        {"abandoned", counters.async.abandoned},
        {"waiting", hub.suspended().size()},
        {"refused", hub.suspended().refused()}}},
      {"log",
       {{"bytes", hub.log().bytes()},
        {"segments", hub.log().segments()},
        {"free_segments", hub.log().free_segments()},
        {"max_lag", hub.MaxLag()}}},
      {"loop",
       {{"turns", counters.loop.turns},
        {"sends", counters.loop.sends},
        {"short_writes", counters.loop.short_writes},
        {"holds", counters.loop.holds},
        {"accept_pauses", counters.loop.accept_pauses}}},
  };
  // A path need not be UTF-8.
  return status.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace evrelay
