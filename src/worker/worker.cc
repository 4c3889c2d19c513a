#include "worker/worker.h"

#include <pthread.h>
#include <signal.h>

#include <cassert>
#include <string_view>
#include <system_error>
#include <utility>
#include <variant>

namespace evrelay {
namespace {

// Threads that are begun during its life get no signals: those are for the loop.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

HookEvent EventOf(HookEventKind kind, const Origin& origin) {
  HookEvent event;
  event.kind = kind;
  event.connection = origin.connection;
  event.srcaddr = origin.srcaddr;
  event.srcport = origin.srcport;
  event.peer_name = origin.peer_name;
  return event;
}

}  // namespace

Worker::Worker(Mailbox<Command>& mailbox, SuspendedTable& suspended, std::size_t index,
               std::size_t workers)
    : mailbox_(mailbox),
      suspended_(suspended),
      index_(index),
      workers_(workers),
      ended_(end_.get_future()) {}

Worker::~Worker() { assert(!thread_.joinable()); }

void Worker::Start() {
  if (thread_.joinable()) return;
  const SignalsBlocked signals_blocked;
  try {
    thread_ = std::thread([this] { Main(); });
  } catch (const std::system_error& error) {
    throw std::system_error(error.code(), "cannot start a thread for the script");
  }
}

void Worker::Post(Task task) {
  inbox_.Post(std::move(task));
  ++posted_;
}

void Worker::Close() { inbox_.Close(); }

bool Worker::Join(Clock::time_point deadline) {
  if (!thread_.joinable()) return true;
  if (ended_.wait_until(deadline) != std::future_status::ready) return false;
  thread_.join();
  return true;
}

std::optional<Worker::Running> Worker::running() const {
  const Clock::rep since = since_.load(std::memory_order_acquire);
  const ConnectionId connection{conidx_.load(std::memory_order_acquire),
                                generation_.load(std::memory_order_acquire)};
  const HookEventKind event = event_.load(std::memory_order_acquire);
  if (since == 0 || since_.load(std::memory_order_relaxed) != since) return std::nullopt;
  return Running{connection, event, Clock::time_point(Clock::duration(since))};
}

void Worker::Main() {
  // Linux keeps 15 bytes of a name.
  const std::string name = ("evrelay-hook/" + std::to_string(index_)).substr(0, 15);
  pthread_setname_np(pthread_self(), name.c_str());

  std::vector<Task> tasks;
  bool open = true;
  while (open && inbox_.Take(tasks)) {
    for (Task& task : tasks) {
      open = std::visit([this](auto& task_of_kind) { return Do(task_of_kind); }, task);
      if (!open) break;
    }
    done_ += tasks.size();
    tasks.clear();
  }

  hook_.reset();
  end_.set_value();
}

bool Worker::Do(task::ConnectionNew& task) {
  Slot& slot = SlotOf(task.origin.connection);
  Command command;
  command.connection = task.origin.connection;
  command.event = HookEventKind::kConnectionNew;
  command.outcome = Run(EventOf(command.event, task.origin), slot, command.verdict, Clock::now());
  // The hub closes a connection whose hook failed here.
  if (Failed(command.outcome)) slot.closed = true;
  return Report(std::move(command));
}

bool Worker::Do(task::MessagesReceived& task) {
  Slot& slot = SlotOf(task.origin.connection);
  HookEvent event = EventOf(HookEventKind::kMessageReceived, task.origin);
  Command nothing_yet;
  nothing_yet.connection = task.origin.connection;
  nothing_yet.event = event.kind;

  Command command = nothing_yet;
  Clock::time_point reported = Clock::now();
  for (std::size_t i = 0; i < task.messages.size(); ++i) {
    Clock::time_point now = Clock::now();
    if (now - reported >= kReportAfter && command.messages > 0) {
      if (!Report(std::exchange(command, nothing_yet))) return false;
      reported = now = Clock::now();
    }

    event.msg = task.messages[i];
    ++command.messages;
    command.bytes += event.msg.size();
    if (slot.closed) {
      ++command.dropped_after_close;
      continue;
    }
    const HookOutcome outcome = Run(event, slot, command.verdict, now);
    if (outcome == HookOutcome::kNoRoute) {
      ++command.dropped_no_hook;
      continue;
    }
    ++command.runs;
    if (outcome == HookOutcome::kDone && command.verdict.empty()) continue;
    command.outcome = outcome;
    if (!Report(std::exchange(command, nothing_yet))) return false;
  }
  return command.messages == 0 || Report(std::move(command));
}

bool Worker::Do(task::ConnectionClosed& task) {
  Slot& slot = SlotOf(task.origin.connection);
  HookEvent event = EventOf(HookEventKind::kConnectionClosed, task.origin);
  event.reason = task.reason;
  Command command;
  command.connection = task.origin.connection;
  command.event = event.kind;
  command.outcome = Run(event, slot, command.verdict, Clock::now());
  slot = Slot();
  return Report(std::move(command));
}

bool Worker::Do(task::SetHook& task) {
  hook_ = std::move(task.hook);
  return true;
}

Worker::Slot& Worker::SlotOf(ConnectionId connection) {
  assert(connection.conidx % workers_ == index_);
  const std::size_t number = connection.conidx / workers_;
  if (number >= slots_.size()) slots_.resize(number + 1);
  Slot& slot = slots_[number];
  if (slot.generation != connection.generation) {
    slot = Slot();
    slot.generation = connection.generation;
  }
  return slot;
}

HookOutcome Worker::Run(HookEvent event, Slot& slot, Verdict& verdict, Clock::time_point now) {
  if (hook_ == nullptr) return HookOutcome::kNoRoute;
  event.tag = slot.tag;
  event.claims = this;

  conidx_.store(event.connection.conidx, std::memory_order_release);
  generation_.store(event.connection.generation, std::memory_order_release);
  event_.store(event.kind, std::memory_order_release);
  since_.store(now.time_since_epoch().count(), std::memory_order_release);
  const HookOutcome outcome = hook_->Run(event, verdict);
  since_.store(0, std::memory_order_relaxed);
  assert(outcome == HookOutcome::kDone || verdict.empty());

  for (const Action& action : verdict.actions()) {
    if (const auto* set_tag = std::get_if<action::SetTag>(&action)) slot.tag = set_tag->etag;
  }
  if (verdict.closes()) slot.closed = true;
  return outcome;
}

bool Worker::Report(Command command) {
  const std::size_t bytes = command.size();
  return mailbox_.Post(std::move(command), bytes);
}

}  // namespace evrelay
