#include "net/listener.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <utility>

#include "logging/log.h"
#include "net/socket.h"

namespace evrelay {
namespace {

// So many accepts in one turn of the loop; the rest waits for the next, after other events.
constexpr int kAcceptsPerTurn = 1024;
constexpr std::chrono::milliseconds kRest{100};
constexpr std::chrono::seconds kReportInterval{1};

[[noreturn]] void Throw(int error, const std::string& what) {
  if (error == EADDRINUSE) throw AddressInUse(what);
  throw std::system_error(error, std::generic_category(), what);
}

using AddrInfo = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

AddrInfo Resolve(const BindAddress& address) {
  addrinfo hints{};
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int status =
      getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found);
  if (status == EAI_SYSTEM) Throw(errno, "resolve " + address.host);
  if (status != 0) {
    throw std::runtime_error("resolve " + address.host + ": " + gai_strerror(status));
  }
  return AddrInfo(found, &freeaddrinfo);
}

UniqueFd OpenOne(const addrinfo& info, const std::string& name) {
  UniqueFd fd(socket(info.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) Throw(errno, "socket for " + name);
  const int on = 1;
  if (setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0) {
    Throw(errno, "SO_REUSEADDR for " + name);
  }
  if (info.ai_family == AF_INET6 &&
      setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) != 0) {
    Throw(errno, "IPV6_V6ONLY for " + name);
  }
  if (bind(fd.get(), info.ai_addr, info.ai_addrlen) != 0) Throw(errno, "bind " + name);
  if (listen(fd.get(), kListenBacklog) != 0) Throw(errno, "listen on " + name);
  return fd;
}

// IPv6 switched off shows as one or the other, depending on how it was switched off.
bool MachineLacks(const addrinfo& info, int error) {
  return info.ai_family == AF_INET6 && (error == EAFNOSUPPORT || error == EADDRNOTAVAIL);
}

// The connection broke before it was accepted; it is out of the queue.
bool IsPeerGone(int error) {
  switch (error) {
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
    case ENOPROTOOPT:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET:
    case ETIMEDOUT:
      return true;
    default:
      return false;
  }
}

bool IsExhausted(int error) {
  return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

// Any descriptor would do; this one needs no file to exist.
UniqueFd OpenSpare() { return UniqueFd(eventfd(0, EFD_CLOEXEC)); }

}  // namespace

std::string ListeningName(int fd) {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  auto* address = reinterpret_cast<sockaddr*>(&storage);
  if (getsockname(fd, address, &size) != 0) Throw(errno, "getsockname");
  if (storage.ss_family != AF_UNIX) return SocketAddress::FromSockaddr(address, size).ToString();
  sockaddr_un local;
  std::memcpy(&local, &storage, sizeof local);
  return "unix:" + std::string(local.sun_path, strnlen(local.sun_path, sizeof local.sun_path));
}

std::vector<UniqueFd> OpenTcpListeners(const BindAddress& address) {
  const AddrInfo found = Resolve(address);
  std::vector<UniqueFd> out;
  std::vector<SocketAddress> seen;
  std::string lacking;
  int lacking_error = 0;
  for (const addrinfo* info = found.get(); info != nullptr; info = info->ai_next) {
    const SocketAddress local = SocketAddress::FromSockaddr(info->ai_addr, info->ai_addrlen);
    if (std::find(seen.begin(), seen.end(), local) != seen.end()) continue;
    seen.push_back(local);
    try {
      out.push_back(OpenOne(*info, local.ToString()));
    } catch (const std::system_error& error) {
      if (!MachineLacks(*info, error.code().value())) throw;
      lacking = error.what();
      lacking_error = error.code().value();
    }
  }
  if (out.empty()) Throw(lacking_error, lacking);
  if (lacking_error != 0) LogWarn("net", "{}: {}; left out", address.ToString(), lacking);
  return out;
}

Listener::Listener(Loop& loop, UniqueFd listening, Handler& handler, std::string name)
    : fd_(std::move(listening)),
      spare_(OpenSpare()),
      handler_(handler),
      name_(name.empty() ? ListeningName(fd_.get()) : std::move(name)),
      event_(loop, fd_.get(), IoEvent::To<&Listener::OnReady>(this)),
      resume_(loop, TimerEvent::To<&Listener::Resume>(this)) {
  SetNonBlocking(fd_.get());
  event_.Watch(IoEvent::kRead);
}

void Listener::SetPaused(bool paused) {
  paused_ = paused;
  if (fd_ && !resume_.scheduled()) event_.Watch(paused ? 0 : IoEvent::kRead);
}

void Listener::Stop() {
  event_.Watch(0);
  resume_.Cancel();
  fd_.Close();
  spare_.Close();
}

void Listener::OnReady(unsigned ready) noexcept {
  if ((ready & IoEvent::kLost) != 0) {
    Rest(ENOMEM);
  } else {
    Accept();
  }
}

void Listener::Accept() {
  int rest_error = 0;
  // The handler may have called Stop or SetPaused.
  for (int i = 0; i < kAcceptsPerTurn && fd_ && !paused_ && !resume_.scheduled(); ++i) {
    sockaddr_storage storage;
    auto* address = reinterpret_cast<sockaddr*>(&storage);
    socklen_t size = sizeof storage;
    UniqueFd fd(accept4(fd_.get(), address, &size, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (fd) {
      handler_.OnAccept(std::move(fd), SocketAddress::FromSockaddr(address, size));
      continue;
    }
    int error = errno;
    if (IsExhausted(error)) {
      // The kernel reports this before it looks whether anybody waits; ShedOne tells.
      const int shed_error = ShedOne();
      if (shed_error == 0) rest_error = error;
      error = shed_error;
    }
    if (error == 0 || IsPeerGone(error)) continue;
    if (error != EAGAIN) rest_error = error;
    break;
  }
  if (fd_ && rest_error != 0) Rest(rest_error);
}

int Listener::ShedOne() noexcept {
  spare_.Close();
  UniqueFd fd(accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!fd) {
    const int error = errno;
    spare_ = OpenSpare();
    return error;
  }
  fd.Close();
  spare_ = OpenSpare();
  handler_.OnAcceptShed();
  return 0;
}

void Listener::Rest(int error) {
  event_.Watch(0);
  resume_.Schedule(kRest);
  const auto now = Loop::Now();
  if (now < next_report_) return;
  next_report_ = now + kReportInterval;
  try {
    LogWarn("net", "accept on {}: {}; trying again every {} ms", name_,
            std::generic_category().message(error), kRest.count());
  } catch (const std::bad_alloc&) {
    // There is no memory for the words; it rests all the same.
  }
}

void Listener::Resume() noexcept {
  if (!spare_) spare_ = OpenSpare();
  event_.Watch(paused_ ? 0 : IoEvent::kRead);
}

}  // namespace evrelay
