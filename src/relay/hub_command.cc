// Of the hub: what a worker says is carried out.

#include <new>
#include <variant>

#include "relay/hub.h"

namespace evrelay {

namespace {

template <class... Cases>
struct Overloaded : Cases... {
  using Cases::operator()...;
};
template <class... Cases>
Overloaded(Cases...) -> Overloaded<Cases...>;

}  // namespace

std::size_t Hub::Apply(const Command& command) {
  const std::uint64_t pushed_before = pushed_;
  CountCommand(command);
  // It may have given back a claim whose request's deadline is over.
  if (Failed(command.outcome)) ScheduleExpiry();
  if (Connection* connection = table_.Find(command.connection)) {
    if (command.messages != 0) connection->OnHandled(command.messages, command.bytes);
    if (connection->state_ == Connection::State::kAdmitting &&
        command.event == HookEventKind::kConnectionNew) {
      Decide(*connection, command);
    }
  }
  for (const Action& action : command.verdict.actions()) {
    try {
      Execute(command.connection, action);
    } catch (const std::bad_alloc&) {
      ++counters_.hook.lost_actions;
    }
  }
  if (command.event == HookEventKind::kConnectionClosed) {
    Connection* connection = table_.Find(command.connection);
    if (connection != nullptr && connection->state_ != Connection::State::kClosing) {
      BeginClose(*connection, connection->close_reason_);
    }
    table_.Release(command.connection);
  }
  return (pushed_ - pushed_before) * DirectQueue::kFrameCost;
}

void Hub::CountCommand(const Command& command) {
  auto& hook = counters_.hook;
  hook.runs[HookEventKind::kMessageReceived] += command.runs;
  if (command.event != HookEventKind::kMessageReceived &&
      command.outcome != HookOutcome::kNoRoute) {
    ++hook.runs[command.event];
  }
  if (Failed(command.outcome)) ++hook.failed[command.outcome];
  counters_.messages.unhandled -= command.messages;
  counters_.messages.dropped_no_hook += command.dropped_no_hook;
  counters_.messages.dropped_after_close += command.dropped_after_close;
}

void Hub::Decide(Connection& connection, const Command& command) {
  if (Failed(command.outcome)) {
    Refuse(connection, CloseReason::kHookError);
    return;
  }
  // One that is closed by the same verdict gets what that verdict has for it, and nothing else.
  if (command.verdict.closes()) DropShare(connection);
  Admit(connection);
}

void Hub::Admit(Connection& connection) noexcept {
  connection.state_ =
      connection.end_announced_ ? Connection::State::kEnding : Connection::State::kLive;
  MoveTo(connection, Connection::Queue::kDue);
  if (connection.state_ == Connection::State::kLive) connection.StartReading();
}

void Hub::Refuse(Connection& connection, CloseReason reason) noexcept {
  DropShare(connection);
  BeginClose(connection, reason);
}

void Hub::DropShare(Connection& connection) noexcept {
  counters_.deliveries.dropped[DropReason::kRefused] +=
      connection.outbox_.SkipTo(log_, log_.end()).skipped;
}

void Hub::SetTag(Connection& connection, std::string_view tag) {
  try {
    tags_.Set(connection.id_.conidx, tag);
  } catch (const std::bad_alloc&) {
    // The worker knows it by the new tag already.
    BeginClose(connection, CloseReason::kNoMemory);
    throw;
  }
}

void Hub::Execute(ConnectionId id, const Action& action) {
  auto& actions = counters_.hook.actions;
  // Null: it is gone, or its end has begun.
  const auto own = [&]() -> Connection* {
    Connection* connection = table_.Find(id);
    if (connection == nullptr || connection->state_ == Connection::State::kClosing) {
      ++counters_.hook.stale_actions;
      return nullptr;
    }
    return connection;
  };
  std::visit(Overloaded{
                 [&](const action::Relay& relay) {
                   Relay(relay.evdata);
                   ++actions.relay;
                 },
                 [&](const action::Multicast& multicast) {
                   Multicast(multicast.evdata, multicast.etag);
                   ++actions.multicast;
                 },
                 [&](const action::Unicast& unicast) {
                   Unicast(unicast.evdata, unicast.etag);
                   ++actions.unicast;
                 },
                 [&](const action::Resume& resume) {
                   ++actions.resume;
                   Resume(resume);
                 },
                 [&](const action::Reply& reply) {
                   if (Connection* connection = own()) Push(*connection, Encode(reply.evdata));
                   ++actions.reply;
                 },
                 [&](const action::Close&) {
                   ++actions.close;
                   if (Connection* connection = own()) BeginClose(*connection, CloseReason::kHook);
                 },
                 [&](const action::SetTag& tag) {
                   if (Connection* connection = own()) SetTag(*connection, tag.etag);
                   ++actions.set_tag;
                 },
             },
             action);
}

}  // namespace evrelay
