// Daemon: the whole relay, put together. Its members stand in the order in which they start, so
// that destruction is shutdown. Signals live here.
//
// One turn of the loop: what the workers' hooks have decided is carried out, what producers have
// sent is taken in, the hub flushes it to the subscribers, the producers' answers go out. Nothing
// else writes to a subscriber.
//
// Reloads: whoever wants one only says so. The next begins when none is under way, its script is
// loaded on a thread of its own, and a turn finishes it.
// Thread safety: none; it lives on the thread that constructs and runs it.

#ifndef EVRELAY_DAEMON_H_
#define EVRELAY_DAEMON_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "admin/control_port.h"
#include "cli.h"
#include "config/config.h"
#include "event/before_wait.h"
#include "event/loop.h"
#include "event/mailbox.h"
#include "event/signal_event.h"
#include "event/timer_event.h"
#include "metrics/counters.h"
#include "net/peer_counts.h"
#include "producer/producer_port.h"
#include "relay/hub.h"
#include "subscriber/subscriber_port.h"
#include "system/systemd.h"
#include "worker/hook_loader.h"
#include "worker/worker_pool.h"

namespace evrelay {

// Runs `evrelay serve` to its end; the exit code. Logs, and says on standard error why it cannot
// start.
int Serve(const ServeOptions& options);

class Daemon final : private ControlPort::Operator {
 public:
  // `config` has been checked, and `hooks` are what its script made. `options` says where a reload
  // reads again. Throws AddressInUse or std::system_error; then nothing is left bound.
  Daemon(const ServeOptions& options, Config config, std::vector<std::unique_ptr<Hook>> hooks,
         ActivatedSockets activated);

  // Serves until a signal ends it; the exit code.
  int Run();

  // After Run: false when a thread is stuck in a script, so that this must not be destroyed.
  bool StopThreads();

 private:
  void OnTurn() noexcept;
  void LogScript() const;
  void OnStop(int signal_number) noexcept;
  void BeginDrain(const std::string& why) noexcept;
  void OnReload(int signal_number) noexcept;
  void OnReopen(int signal_number) noexcept;
  void OnDrainDeadline() noexcept;
  void OnNotify() noexcept;
  void OnProgressCheck() noexcept;
  void BeginReload();
  void FinishReload(HookLoader::Result result);
  void RefuseReload(const std::vector<std::string>& errors);
  void EndReload(bool done, const std::vector<std::string>& lines);
  std::string Status() override;
  std::optional<std::uint64_t> WantReload() override;
  void Drain() override;

  const ServeOptions options_;
  const std::chrono::steady_clock::time_point started_ = Loop::Now();
  Config config_;
  Counters counters_;
  Loop loop_;
  PeerCounts peers_;
  Hub hub_;
  Mailbox<Command> commands_;  // worker → loop
  WorkerPool workers_;
  HookLoader hook_loader_;
  ProducerPort producers_;
  SubscriberPort subscribers_;
  ControlPort control_;
  BeforeWait turn_;
  SignalEvent terminate_;
  SignalEvent interrupt_;
  SignalEvent reload_;
  SignalEvent reopen_;
  TimerEvent drain_deadline_;
  TimerEvent notify_;    // tells systemd that the loop turns
  TimerEvent progress_;  // looks for stuck workers, while any is busy
  std::vector<bool> reported_stuck_;
  std::chrono::steady_clock::time_point reload_began_;
  bool reported_loader_ = false;
  std::uint64_t reloads_ = 0;              // have begun
  std::vector<std::string> reload_notes_;  // what the one under way leaves to a restart
  std::vector<DoorRules> next_rules_;      // of the one under way
  bool reload_wanted_ = false;
  bool draining_ = false;
  bool told_to_stop_ = false;  // by a signal
  int exit_code_ = 0;
};

}  // namespace evrelay

#endif  // EVRELAY_DAEMON_H_
