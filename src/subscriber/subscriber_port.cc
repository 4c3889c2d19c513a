#include "subscriber/subscriber_port.h"

#include <algorithm>
#include <new>
#include <optional>
#include <stdexcept>
#include <utility>

#include "logging/log.h"
#include "net/address.h"
#include "net/socket.h"
#include "subscriber/for_log.h"

namespace evrelay {

namespace {

constexpr std::string_view kLogger = "subscriber";

// SO_SNDBUF for peers on this machine, where the kernel's own tuning is too careful. A peer far
// away needs that tuning, which any fixed size would switch off.
constexpr std::uint32_t kLocalSendBuffer = 256 * 1024;

// Who may open a subscriber socket: the port has no other access rule, as on loopback.
constexpr mode_t kUnixListenerMode = 0666;

BindAddress Parsed(const ListenConfig& listen) {
  std::string error;
  std::optional<BindAddress> address = ParseBindAddress(listen.addr, error);
  if (!address) throw std::runtime_error("bind_addr: " + error);
  return std::move(*address);
}

// What bind_addr says of a socket that came bound, by its address. One that it does not mention
// must not be open to everyone only because of a slip of the pen.
ListenConfig ConfigOf(const std::string& name, const Config& config) {
  bool restricted = false;
  for (const ListenConfig& listen : config.bind_addr) {
    if (Parsed(listen).ToString() == name) return listen;
    restricted = restricted || !listen.allow.empty() || listen.tls;
  }
  if (!restricted) return {name, {}, {}};
  throw std::runtime_error("the socket " + name +
                           " that systemd holds is not in bind_addr, which has entries with allow "
                           "or tls; give it an entry of its own there");
}

DoorRules Rules(const ListenConfig& config) {
  if (!config.tls) return {config, nullptr};
  try {
    return {config, LoadTls(*config.tls)};
  } catch (const std::runtime_error& error) {
    throw std::runtime_error("bind_addr " + config.addr + ": tls: " + error.what());
  }
}

}  // namespace

std::vector<std::string> SubscriberPort::CheckCertificates(const Config& config) {
  std::vector<std::string> warnings;
  for (const ListenConfig& listen : config.bind_addr) {
    const DoorRules rules = Rules(listen);
    if (rules.tls != nullptr) warnings.push_back(rules.tls->Warning());
  }
  std::erase(warnings, std::string());
  return warnings;
}

bool SubscriberPort::SameListeners(const Config& now, const Config& next) {
  return std::ranges::equal(
      now.bind_addr, next.bind_addr, [](const ListenConfig& one, const ListenConfig& other) {
        return one.addr == other.addr && one.tls.has_value() == other.tls.has_value();
      });
}

SubscriberPort::SubscriberPort(Loop& loop, Hub& hub, WorkerPool& workers, const Config& config,
                               Counters& counters, PeerCounts& peers,
                               std::vector<UniqueFd> activated)
    : context_{loop, hub, workers, config, counters, std::string(Subscriber::kReadSize, '\0')},
      peers_(peers),
      handshakes_(loop, counters, *this),
      go_on_(loop, TimerEvent::To<&SubscriberPort::GoOn>(this)) {
  for (UniqueFd& fd : activated) {
    const std::string name = ListeningName(fd.get());
    Open(std::move(fd), {}, ConfigOf(name, config));
  }
  if (!doors_.empty()) return;

  for (const ListenConfig& listen : config.bind_addr) {
    const BindAddress address = Parsed(listen);
    if (address.is_unix()) {
      UnixSocketPath& path = paths_.emplace_back(
          UnixSocketOptions{address.unix_path, kUnixListenerMode, std::nullopt, std::nullopt});
      Open(path.TakeListener(), listen.addr, listen);
    } else {
      for (UniqueFd& fd : OpenTcpListeners(address)) Open(std::move(fd), {}, listen);
    }
  }
}

void SubscriberPort::Open(UniqueFd listening, std::string name, const ListenConfig& config) {
  Door::Handler& handler = *this;
  doors_.emplace_back(context_.loop, std::move(listening), std::move(name), Rules(config),
                      context_.counters, handler);
}

void SubscriberPort::Stop() {
  go_on_.Cancel();
  for (Door& door : doors_) door.listener().Stop();
  handshakes_.DropAll();
}

std::vector<DoorRules> SubscriberPort::RulesOf(const Config& next) const {
  std::vector<DoorRules> rules;
  if (SameListeners(context_.config, next)) {
    for (const Door& door : doors_) {
      rules.push_back(Rules(ConfigOf(Parsed(door.rules().config).ToString(), next)));
    }
  } else {
    CheckCertificates(next);  // for the restart; until then all doors stay as they are
    for (const Door& door : doors_) rules.push_back(door.rules());
  }
  return rules;
}

void SubscriberPort::SetRules(std::vector<DoorRules> rules) {
  for (std::size_t i = 0; i < doors_.size(); ++i) doors_[i].SetRules(std::move(rules[i]));
}

std::vector<std::string> SubscriberPort::Warnings() const {
  std::vector<std::string> warnings;
  for (const Door& door : doors_) {
    if (door.rules().tls != nullptr) warnings.push_back(door.rules().tls->Warning());
  }
  std::erase(warnings, std::string());
  return warnings;
}

void SubscriberPort::OnReload() {
  context_.frame_timer.OnReload();
  if (go_on_.scheduled()) GoOn();
}

bool SubscriberPort::Rest() {
  const std::uint32_t rate = context_.config.accept_rate;
  if (rate == 0) return false;
  const std::chrono::nanoseconds wait = accept_rate_.Wait(rate, Loop::Now());
  if (wait <= wait.zero()) return false;
  for (Door& door : doors_) door.listener().SetPaused(true);
  go_on_.Schedule(wait);
  return true;
}

void SubscriberPort::GoOn() noexcept {
  go_on_.Cancel();
  // They take turns in being the first: a crowd at one door must not keep the others closed.
  first_ = (first_ + 1) % doors_.size();
  for (std::size_t i = 0; i < doors_.size() && !Rest(); ++i) {
    Listener& listener = doors_[(first_ + i) % doors_.size()].listener();
    listener.SetPaused(false);
    listener.Accept();
  }
}

std::vector<std::string> SubscriberPort::names() const {
  std::vector<std::string> names;
  for (const Door& door : doors_) names.push_back(door.name());
  return names;
}

void SubscriberPort::OnArrival(const Door& door, UniqueFd fd, const SocketAddress& peer) noexcept
    try {
  std::optional<PeerCounts::Place> place = peers_.Take(peer, context_.config.max_clients_per_ip);
  if (!place) {
    ++context_.counters.subscribers.refused[RefuseReason::kPerIp];
    static LogLimit limit;
    LogWarnLimited(limit, kLogger,
                   "{} is turned away: its address has max_clients_per_ip ({}) places",
                   ForLog(peer), context_.config.max_clients_per_ip);
    return;
  }
  if (context_.hub.places() + handshakes_.size() >= context_.config.max_clients) {
    ++context_.counters.subscribers.refused[RefuseReason::kFull];
    static LogLimit limit;
    LogWarnLimited(limit, kLogger, "{} is turned away: all {} places of max_clients are taken",
                   ForLog(peer), context_.config.max_clients);
    return;
  }
  if (context_.config.accept_rate != 0) {
    accept_rate_.Take(context_.config.accept_rate, Loop::Now());
    if (Rest()) {
      ++context_.counters.loop.accept_pauses;
      static LogLimit limit;
      LogInfoLimited(limit, kLogger,
                     "accept_rate ({} a second) is reached; whoever comes next waits",
                     context_.config.accept_rate);
    }
  }
  if (!peer.is_unix()) {
    SetNoDelay(fd.get());
    SetKeepAlive(fd.get());
  }
  if (context_.config.send_buffer) {
    SetSendBuffer(fd.get(), *context_.config.send_buffer);
  } else if (peer.is_unix() || peer.loopback()) {
    SetSendBuffer(fd.get(), kLocalSendBuffer);
  }
  if (door.rules().tls != nullptr) {
    handshakes_.Begin(door.rules().tls->Accept(std::move(fd)), peer, std::move(*place));
  } else {
    OnHandshaken(std::make_unique<PlainTransport>(std::move(fd)), peer, std::move(*place));
  }
} catch (const std::bad_alloc&) {
  ++context_.counters.subscribers.refused[RefuseReason::kNoMemory];
}

void SubscriberPort::OnHandshaken(std::unique_ptr<Transport> transport, const SocketAddress& peer,
                                  PeerCounts::Place place) noexcept try {
  const Connection& connection = context_.hub.Add(
      std::make_unique<Subscriber>(context_, std::move(transport), peer, std::move(place)));
  LogDebug(kLogger, "subscriber {} has conidx {}", connection.Peer(), connection.id().conidx);
} catch (const std::bad_alloc&) {
  ++context_.counters.subscribers.refused[RefuseReason::kNoMemory];
}

}  // namespace evrelay
