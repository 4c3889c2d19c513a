// Daemon: the whole relay, put together. Its members stand in the order in which they start, so
// that destruction is shutdown. Signals live here.
//
// One turn of the loop: what producers have sent is taken in, the hub flushes it to the
// subscribers, the producers' answers go out. Nothing else writes to a subscriber. Thread safety:
// none; it lives on the thread that constructs and runs it.

#ifndef EVRELAY_DAEMON_H_
#define EVRELAY_DAEMON_H_

#include <chrono>
#include <string>

#include "admin/control_port.h"
#include "cli.h"
#include "config/config.h"
#include "event/before_wait.h"
#include "event/loop.h"
#include "event/signal_event.h"
#include "event/timer_event.h"
#include "metrics/counters.h"
#include "producer/producer_port.h"
#include "relay/hub.h"
#include "subscriber/subscriber_port.h"
#include "system/systemd.h"

namespace evrelay {

// Runs `evrelay serve` to its end; the exit code. Logs, and says on standard error why it cannot
// start.
int Serve(const ServeOptions& options);

class Daemon {
 public:
  // `config` has been checked. `options` says where a reload reads again. Throws AddressInUse or
  // std::system_error; then nothing is left bound.
  Daemon(const ServeOptions& options, Config config, ActivatedSockets activated);

  // Serves until a signal ends it; the exit code.
  int Run();

 private:
  void OnTurn() noexcept;
  void OnStop(int signal_number) noexcept;
  void OnReload(int signal_number) noexcept;
  void OnReopen(int signal_number) noexcept;
  void OnDrainDeadline() noexcept;
  void OnNotify() noexcept;
  void Reload();
  std::string Status();

  const ServeOptions options_;
  const std::chrono::steady_clock::time_point started_ = Loop::Now();
  Config config_;
  Counters counters_;
  Loop loop_;
  Hub hub_;
  ProducerPort producers_;
  SubscriberPort subscribers_;
  ControlPort control_;
  BeforeWait turn_;
  SignalEvent terminate_;
  SignalEvent interrupt_;
  SignalEvent reload_;
  SignalEvent reopen_;
  TimerEvent drain_deadline_;
  TimerEvent notify_;  // tells systemd that the loop turns
  bool draining_ = false;
  int exit_code_ = 0;
};

}  // namespace evrelay

#endif  // EVRELAY_DAEMON_H_
