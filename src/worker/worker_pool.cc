#include "worker/worker_pool.h"

#include <cassert>
#include <cstdlib>
#include <optional>
#include <utility>

#include "worker/worker.h"

namespace evrelay {

WorkerPool::WorkerPool(Mailbox<Command>& mailbox, SuspendedTable& suspended, std::size_t workers) {
  assert(workers > 0);
  for (std::size_t i = 0; i < workers; ++i)
    workers_.push_back(std::make_unique<Worker>(mailbox, suspended, i, workers));
}

WorkerPool::~WorkerPool() {
  if (!Stop(std::chrono::minutes(1))) std::abort();
}

void WorkerPool::SetHooks(std::vector<std::unique_ptr<Hook>> hooks) {
  assert(hooks.empty() || hooks.size() == workers_.size());
  const bool script = !hooks.empty();
  if (script) {
    for (const auto& worker : workers_) worker->Start();
    started_ = true;
  }
  active_ = script;
  admits_ = script && hooks.front()->Hears(HookEventKind::kConnectionNew);
  if (!started_) return;
  hooks.resize(workers_.size());
  for (std::size_t i = 0; i < workers_.size(); ++i)
    workers_[i]->Post(task::SetHook{std::move(hooks[i])});
}

void WorkerPool::ConnectionNew(Origin origin) {
  Worker& worker = WorkerOf(origin.connection);
  worker.Post(task::ConnectionNew{std::move(origin)});
}

void WorkerPool::MessagesReceived(Origin origin, MessageBatch messages) {
  Worker& worker = WorkerOf(origin.connection);
  worker.Post(task::MessagesReceived{std::move(origin), std::move(messages)});
}

void WorkerPool::ConnectionClosed(Origin origin, CloseReason reason) {
  Worker& worker = WorkerOf(origin.connection);
  worker.Post(task::ConnectionClosed{std::move(origin), reason});
}

std::vector<WorkerPool::Stuck> WorkerPool::StuckWorkers(
    std::chrono::steady_clock::time_point now) const {
  std::vector<Stuck> stuck;
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    const std::optional<Worker::Running> running = workers_[i]->running();
    if (!running || now - running->since <= kStuckAfter) continue;
    stuck.push_back({i, running->connection, running->event,
                     std::chrono::duration_cast<std::chrono::milliseconds>(now - running->since)});
  }
  return stuck;
}

bool WorkerPool::busy() const {
  for (const auto& worker : workers_) {
    if (worker->busy()) return true;
  }
  return false;
}

bool WorkerPool::Stop(std::chrono::milliseconds patience) {
  const auto deadline = Worker::Clock::now() + patience;
  for (const auto& worker : workers_) worker->Close();
  bool ended = true;
  for (const auto& worker : workers_) ended = worker->Join(deadline) && ended;
  return ended;
}

Worker& WorkerPool::WorkerOf(ConnectionId connection) {
  assert(started_);
  return *workers_[connection.conidx % workers_.size()];
}

}  // namespace evrelay
