#include "subscriber/subscriber_port.h"

#include <optional>
#include <stdexcept>
#include <utility>

#include "logging/log.h"
#include "net/address.h"
#include "net/socket.h"

namespace evrelay {

namespace {

constexpr std::string_view kLogger = "subscriber";

// SO_SNDBUF for peers on this machine, where the kernel's own tuning is too careful. A peer far
// away needs that tuning, which any fixed size would switch off.
constexpr std::uint32_t kLocalSendBuffer = 256 * 1024;

// Who may open a subscriber socket: the port has no other access rule, as on loopback.
constexpr mode_t kUnixListenerMode = 0666;

}  // namespace

SubscriberPort::SubscriberPort(Loop& loop, Hub& hub, WorkerPool& workers, const Config& config,
                               Counters& counters, std::vector<UniqueFd> activated)
    : context_{loop, hub, workers, config, counters, std::string(Subscriber::kReadSize, '\0')} {
  Listener::Handler& handler = *this;
  for (UniqueFd& fd : activated) listeners_.emplace_back(loop, std::move(fd), handler);
  if (!listeners_.empty()) return;

  for (const std::string& text : config.bind_addr) {
    std::string error;
    const std::optional<BindAddress> address = ParseBindAddress(text, error);
    if (!address) throw std::runtime_error("bind_addr: " + error);
    if (address->is_unix()) {
      UnixSocketPath& path = paths_.emplace_back(
          UnixSocketOptions{address->unix_path, kUnixListenerMode, std::nullopt, std::nullopt});
      listeners_.emplace_back(loop, path.TakeListener(), handler, "unix:" + address->unix_path);
    } else {
      for (UniqueFd& fd : OpenTcpListeners(*address)) {
        listeners_.emplace_back(loop, std::move(fd), handler);
      }
    }
  }
}

void SubscriberPort::Stop() {
  for (Listener& listener : listeners_) listener.Stop();
}

std::vector<std::string> SubscriberPort::names() const {
  std::vector<std::string> names;
  for (const Listener& listener : listeners_) names.push_back(listener.name());
  return names;
}

void SubscriberPort::OnAccept(UniqueFd fd, const SocketAddress& peer) noexcept {
  if (context_.hub.places() >= context_.config.max_clients) {
    ++context_.counters.subscribers.refused[RefuseReason::kFull];
    static LogLimit limit;
    LogWarnLimited(limit, kLogger, "{} is turned away: all {} places of max_clients are taken",
                   peer.ToString(), context_.config.max_clients);
    return;
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
  const Connection& connection =
      context_.hub.Add(std::make_unique<Subscriber>(context_, std::move(fd), peer));
  LogDebug(kLogger, "subscriber {} has conidx {}", connection.Peer(), connection.id().conidx);
}

void SubscriberPort::OnAcceptShed() noexcept {
  ++context_.counters.subscribers.refused[RefuseReason::kNoFiles];
}

}  // namespace evrelay
