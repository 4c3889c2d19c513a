#include "daemon.h"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "admin/status.h"
#include "config/check.h"
#include "config/load_yaml.h"
#include "evrelay/version.h"
#include "logging/log.h"
#include "net/listener.h"
#include "system/limits.h"
#include "system/paths.h"

namespace evrelay {

namespace {

constexpr std::string_view kLogger = "daemon";

constexpr int kExitDone = 0;
constexpr int kExitFailed = 1;
constexpr int kExitConfig = 2;
constexpr int kExitInUse = 3;

// How often systemd is told the counts when it asks for no watchdog.
constexpr std::chrono::seconds kNotifyInterval{10};

// How often busy workers are looked at.
constexpr std::chrono::milliseconds kProgressInterval{100};

// How long a worker may take to end the hook it is at when the relay stops: hook.timeout bounds its
// processor time, so more is a hook that nothing can end.
constexpr std::chrono::milliseconds kStopPatience{500};

// The file (or the defaults), then the flags, then the paths that depend on the environment.
LoadedConfig Load(const ServeOptions& options) {
  LoadedConfig loaded;
  if (options.config_file) loaded = LoadYaml(*options.config_file);
  Config& config = loaded.config;
  ApplyFlags(options, config);
  if (config.producer.socket.empty()) config.producer.socket = DefaultSocketPath();
  if (config.control.socket.empty()) {
    const std::string& producer = config.producer.socket;
    config.control.socket = producer.substr(0, producer.rfind('/') + 1) + "control.sock";
  }
  if (loaded.errors.empty()) loaded.errors = CheckConfig(config);
  return loaded;
}

std::string Joined(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : ", ") + name;
  return out;
}

// What a running relay cannot change.
std::vector<std::string> NeedsRestart(const Config& now, const Config& next) {
  std::vector<std::string> keys;
  const auto compare = [&keys](bool same, const char* key) {
    if (!same) keys.emplace_back(key);
  };
  compare(SubscriberPort::SameListeners(now, next), "bind_addr");
  compare(now.workers == next.workers, "workers");
  compare(now.netstring_format == next.netstring_format, "netstring_format");
  compare(now.producer.socket == next.producer.socket, "producer.socket");
  compare(now.producer.mode == next.producer.mode, "producer.mode");
  compare(now.producer.user == next.producer.user, "producer.user");
  compare(now.producer.group == next.producer.group, "producer.group");
  compare(now.control.socket == next.control.socket, "control.socket");
  compare(now.control.mode == next.control.mode, "control.mode");
  compare(now.log.target == next.log.target, "log.target");
  return keys;
}

// Takes over what a running relay can change.
void TakeOver(const Config& next, Config& config) {
  if (SubscriberPort::SameListeners(config, next)) config.bind_addr = next.bind_addr;
  config.max_clients = next.max_clients;
  config.max_clients_per_ip = next.max_clients_per_ip;
  config.accept_rate = next.accept_rate;
  config.bad_frame = next.bad_frame;
  config.max_message = next.max_message;
  config.max_event = next.max_event;
  config.frame_timeout = next.frame_timeout;
  config.send_buffer = next.send_buffer;
  config.script = next.script;
  config.event_callback = next.event_callback;
  config.hook = next.hook;
  config.producer.max_connections = next.producer.max_connections;
  config.producer.allow = next.producer.allow;
  config.slow_subscriber = next.slow_subscriber;
  config.async = next.async;
  config.log.level = next.log.level;
  config.drain = next.drain;
}

// Allowed, but hardly meant.
void WarnAbout(const Config& config) {
  if (config.workers == 0) LogInfo(kLogger, "workers: 0 is read as 1");
  if (config.slow_subscriber.max_lag >= config.max_event) return;
  LogWarn(
      kLogger,
      "slow_subscriber.max_lag ({} bytes) is below max_event ({} bytes): an event between the two "
      "puts every subscriber over max_lag at once",
      config.slow_subscriber.max_lag, config.max_event);
}

void WarnAbout(const std::vector<std::string>& warnings) {
  for (const std::string& warning : warnings) LogWarn(kLogger, "{}", warning);
}

void ReportStuck(const WorkerPool::Stuck& stuck) {
  LogWarn(kLogger, "worker {} has been in {} of conidx {} for {} ms; its connections wait",
          stuck.worker, Name(stuck.event), stuck.connection.conidx, stuck.since.count());
}

void WarnAbout(const Config& config, const std::vector<std::unique_ptr<Hook>>& hooks) {
  if (hooks.empty()) return;
  for (std::size_t kind = 0; kind < kHookEventNames.size(); ++kind) {
    if (hooks.front()->Hears(static_cast<HookEventKind>(kind))) return;
  }
  LogWarn(
      kLogger,
      "{}: the script hears no event: nothing is in event_route, and the configuration names no "
      "event_callback; messages are dropped",
      config.script);
}

// An exception that nothing can be done about: memory is used up at a place that cannot do without.
[[noreturn]] void Die() noexcept {
  static constexpr std::string_view kOutOfMemory = "evrelay: out of memory\n";
  try {
    if (std::current_exception()) throw;
  } catch (const std::bad_alloc&) {
    [[maybe_unused]] const auto n = write(STDERR_FILENO, kOutOfMemory.data(), kOutOfMemory.size());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "evrelay: %s\n", error.what());
  } catch (...) {
  }
  std::abort();
}

int Fail(int exit_code, const std::string& what) {
  std::fprintf(stderr, "evrelay: %s\n", what.c_str());
  return exit_code;
}

}  // namespace

int Serve(const ServeOptions& options) {
  std::set_terminate(&Die);
  LoadedConfig loaded = Load(options);
  for (const std::string& error : loaded.errors) std::fprintf(stderr, "%s\n", error.c_str());
  if (!loaded.errors.empty()) return kExitConfig;
  LoadedHooks hooks = LoadHooks(loaded.config);
  if (!hooks.error.empty()) {
    std::fprintf(stderr, "%s\n", hooks.error.c_str());
    return kExitConfig;
  }
  std::vector<std::string> warnings;
  try {
    warnings = SubscriberPort::CheckCertificates(loaded.config);
  } catch (const std::runtime_error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return kExitConfig;
  }
  if (options.check) {
    WarnAbout(loaded.config, hooks.hooks);
    WarnAbout(warnings);
    std::puts("ok");
    return kExitDone;
  }
  ActivatedSockets activated;
  try {
    activated = TakeActivatedSockets();
  } catch (const std::exception& error) {
    return Fail(kExitFailed, error.what());
  }
  try {
    CheckFileLimit(RaiseFileLimit(), loaded.config,
                   std::max(loaded.config.bind_addr.size(), activated.subscriber.size()));
  } catch (const std::runtime_error& error) {
    return Fail(kExitConfig, error.what());
  }
  std::signal(SIGPIPE, SIG_IGN);
  try {
    SetUpLogging(loaded.config.log);
  } catch (const std::system_error& error) {  // no thread
    return Fail(kExitFailed, error.what());
  } catch (const std::runtime_error& error) {
    return Fail(kExitConfig, error.what());
  }
  int exit_code = kExitFailed;
  try {
    Daemon daemon(options, std::move(loaded.config), std::move(hooks.hooks), std::move(activated));
    exit_code = daemon.Run();
    if (!daemon.StopThreads()) {
      ShutDownLogging();
      _exit(exit_code);
    }
  } catch (const AddressInUse& error) {
    exit_code = Fail(kExitInUse, error.what());
  } catch (const std::bad_alloc&) {
    exit_code = Fail(kExitFailed, "out of memory");
  } catch (const std::exception& error) {
    exit_code = Fail(kExitFailed, error.what());
  }
  ShutDownLogging();
  return exit_code;
}

Daemon::Daemon(const ServeOptions& options, Config config, std::vector<std::unique_ptr<Hook>> hooks,
               ActivatedSockets activated)
    : options_(options),
      config_(std::move(config)),
      hub_(loop_, config_, counters_),
      commands_(loop_),
      workers_(commands_, hub_.suspended(), std::max(config_.workers, std::uint32_t{1})),
      hook_loader_(loop_),
      producers_(loop_, hub_, config_, counters_, std::move(activated.producer)),
      subscribers_(loop_, hub_, workers_, config_, counters_, peers_,
                   std::move(activated.subscriber)),
      control_(loop_, config_.control, hub_, *this),
      turn_(loop_, BeforeWait::To<&Daemon::OnTurn>(this)),
      terminate_(loop_, SIGTERM, SignalEvent::To<&Daemon::OnStop>(this)),
      interrupt_(loop_, SIGINT, SignalEvent::To<&Daemon::OnStop>(this)),
      reload_(loop_, SIGHUP, SignalEvent::To<&Daemon::OnReload>(this)),
      reopen_(loop_, SIGUSR1, SignalEvent::To<&Daemon::OnReopen>(this)),
      drain_deadline_(loop_, TimerEvent::To<&Daemon::OnDrainDeadline>(this)),
      notify_(loop_, TimerEvent::To<&Daemon::OnNotify>(this)),
      progress_(loop_, TimerEvent::To<&Daemon::OnProgressCheck>(this)),
      reported_stuck_(workers_.workers()) {
  WarnAbout(config_, hooks);
  workers_.SetHooks(std::move(hooks));
}

int Daemon::Run() {
  LogInfo(kLogger, "ready: subscribers on {}, producers on {}; evrelay {}",
          Joined(subscribers_.names()), config_.producer.socket, EVRELAY_VERSION);
  LogScript();
  WarnAbout(config_);
  WarnAbout(subscribers_.Warnings());
  NotifySystemd("READY=1");
  OnNotify();
  loop_.Run();
  LogInfo(kLogger, "stopped");
  return exit_code_;
}

void Daemon::LogScript() const {
  if (!workers_.active()) return;
  LogInfo(kLogger, "script: {}, on {} worker{}", config_.script, workers_.workers(),
          workers_.workers() == 1 ? "" : "s");
}

bool Daemon::StopThreads() {
  commands_.Close();
  if (workers_.Stop(kStopPatience) && hook_loader_.Stop(kStopPatience)) return true;
  for (const WorkerPool::Stuck& stuck : workers_.StuckWorkers()) ReportStuck(stuck);
  LogWarn(kLogger, "a script has not ended; the process ends without it");
  return false;
}

void Daemon::OnTurn() noexcept {
  ++counters_.loop.turns;
  commands_.Take(Hub::kTurnIntake, [this](const Command& command) { return hub_.Apply(command); });
  if (auto loaded = hook_loader_.Take(); loaded && !draining_) FinishReload(std::move(*loaded));
  if (reload_wanted_ && !hook_loader_.busy()) BeginReload();
  producers_.Intake();
  hub_.Flush();
  producers_.SetHeld(hub_.holding());
  producers_.SendAnswers();
  if ((workers_.busy() || hook_loader_.busy()) && !progress_.scheduled()) {
    progress_.Schedule(kProgressInterval);
  }
  if (draining_ && hub_.places() == 0 && producers_.connections() == 0) loop_.Break();
}

void Daemon::OnStop(int signal_number) noexcept {
  if (std::exchange(told_to_stop_, true)) {
    LogWarn(kLogger, "signal {} again: stopping at once", signal_number);
    exit_code_ = kExitFailed;
    loop_.Break();
    return;
  }
  const std::string why = "signal " + std::to_string(signal_number);
  if (draining_) {
    LogInfo(kLogger, "{}: draining already", why);
  } else {
    BeginDrain(why);
  }
}

void Daemon::Drain() {
  if (!draining_) BeginDrain("control socket");
}

void Daemon::BeginDrain(const std::string& why) noexcept {
  LogInfo(kLogger, "{}: draining {} subscribers and {} producers, for {} ms at most", why,
          hub_.connections(), producers_.connections(), config_.drain.count());
  NotifySystemd("STOPPING=1");
  draining_ = true;
  reload_wanted_ = false;
  control_.OnDrain();
  drain_deadline_.Schedule(config_.drain);
  subscribers_.Stop();
  producers_.Drain();
  hub_.Drain();
}

void Daemon::OnDrainDeadline() noexcept {
  const std::size_t connections = hub_.connections();
  hub_.CutAll();
  LogWarn(kLogger, "drain time is over: {} connections are cut, {} deliveries dropped", connections,
          counters_.deliveries.dropped[DropReason::kDrain]);
  loop_.Break();
}

void Daemon::OnProgressCheck() noexcept try {
  std::vector<bool> stuck_now(reported_stuck_.size());
  for (const WorkerPool::Stuck& stuck : workers_.StuckWorkers()) {
    stuck_now[stuck.worker] = true;
    if (!reported_stuck_[stuck.worker]) ReportStuck(stuck);
  }
  for (std::size_t i = 0; i < stuck_now.size(); ++i) {
    if (reported_stuck_[i] && !stuck_now[i]) LogWarn(kLogger, "worker {} goes on", i);
  }
  reported_stuck_ = std::move(stuck_now);

  const bool loader_stuck =
      hook_loader_.busy() && Loop::Now() - reload_began_ > WorkerPool::kStuckAfter;
  if (loader_stuck && !reported_loader_) {
    LogWarn(kLogger, "reload: the new script has been loading for {} s; the old one stays in force",
            WorkerPool::kStuckAfter.count());
  }
  reported_loader_ = loader_stuck;
} catch (const std::bad_alloc&) {
  // The next check tells what this one could not.
}

void Daemon::OnReload(int) noexcept { WantReload(); }

std::optional<std::uint64_t> Daemon::WantReload() {
  if (draining_) return std::nullopt;
  if (hook_loader_.busy() && !reload_wanted_) {
    LogInfo(kLogger, "reload: the script is still being loaded; another reload follows");
  }
  reload_wanted_ = true;
  return reloads_ + 1;
}

void Daemon::BeginReload() try {
  reload_wanted_ = false;
  ++reloads_;
  NotifySystemd("RELOADING=1");
  LoadedConfig next;
  try {
    next = Load(options_);
    if (next.errors.empty()) {
      CheckFileLimit(RaiseFileLimit(), next.config, subscribers_.names().size());
      next_rules_ = subscribers_.RulesOf(next.config);
    }
  } catch (const std::exception& error) {
    next.errors.emplace_back(error.what());
  }
  if (!next.errors.empty()) {
    RefuseReload(next.errors);
    return;
  }
  reload_notes_.clear();
  for (const std::string& key : NeedsRestart(config_, next.config)) {
    reload_notes_.push_back(key + " has changed in the file; it needs a restart");
    LogWarn(kLogger, "reload: {}", reload_notes_.back());
  }
  // As many hooks as there are workers now.
  next.config.workers = config_.workers;
  reload_began_ = Loop::Now();
  try {
    hook_loader_.Start(std::move(next.config));
  } catch (const std::exception& error) {
    RefuseReload({std::string("cannot start a thread for the script: ") + error.what()});
  }
} catch (const std::bad_alloc&) {
  LogError(kLogger, "reload: out of memory; nothing has changed");
  EndReload(false, {});
}

void Daemon::FinishReload(HookLoader::Result result) {
  if (!result.loaded.error.empty()) {
    RefuseReload({result.loaded.error});
    return;
  }
  WarnAbout(result.config, result.loaded.hooks);
  for (const WorkerPool::Stuck& stuck : workers_.StuckWorkers()) {
    LogWarn(kLogger, "reload: worker {} is stuck; the new script is for it when it goes on",
            stuck.worker);
  }
  try {
    workers_.SetHooks(std::move(result.loaded.hooks));
  } catch (const std::system_error& error) {
    RefuseReload({error.what()});
    return;
  }
  TakeOver(result.config, config_);
  subscribers_.SetRules(std::move(next_rules_));
  SetLogLevel(config_.log.level);
  producers_.OnReload();
  subscribers_.OnReload();
  WarnAbout(config_);
  WarnAbout(subscribers_.Warnings());
  LogScript();
  LogInfo(kLogger, "reload: done");
  EndReload(true, reload_notes_);
}

void Daemon::RefuseReload(const std::vector<std::string>& errors) {
  for (const std::string& error : errors) LogError(kLogger, "reload: {}", error);
  LogError(kLogger, "reload: nothing has changed");
  EndReload(false, errors);
}

void Daemon::EndReload(bool done, const std::vector<std::string>& lines) {
  NotifySystemd("READY=1");
  control_.OnReloaded(reloads_, done, lines);
}

void Daemon::OnReopen(int) noexcept { ReopenLogFile(); }

void Daemon::OnNotify() noexcept {
  const auto watchdog = WatchdogInterval();
  notify_.Schedule(watchdog ? *watchdog / 2 : std::chrono::microseconds(kNotifyInterval));
  try {
    // As long as one worker goes on, connections are served.
    const bool alive = workers_.StuckWorkers().size() < workers_.workers();
    NotifySystemd((alive ? "WATCHDOG=1\nSTATUS=" : "STATUS=all workers are stuck; ") +
                  std::to_string(hub_.live()) + " subscribers, " +
                  std::to_string(producers_.connections()) + " producers, " +
                  std::to_string(counters_.events.relayed) + " events relayed");
  } catch (const std::bad_alloc&) {
    NotifySystemd("WATCHDOG=1");  // the loop turns, if it has no words for it
  }
}

std::string Daemon::Status() {
  StatusFacts facts;
  facts.uptime = Loop::Now() - started_;
  facts.state = draining_ ? "draining" : "running";
  facts.listen = subscribers_.names();
  facts.producer_socket = config_.producer.socket;
  facts.control_socket = config_.control.socket;
  facts.producers = producers_.connections();
  facts.script = config_.script;
  facts.workers = workers_.workers();
  facts.stuck_workers = workers_.StuckWorkers().size();
  hub_.CountWritten();
  return StatusJson(facts, counters_, hub_);
}

}  // namespace evrelay
