#include "admin/control_port.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "evrelay/netstring.h"
#include "metrics/reasons.h"

namespace evrelay {

class ControlPort::Session {
 public:
  Session(ControlPort& port, UniqueFd fd)
      : port_(port),
        fd_(std::move(fd)),
        event_(port.loop_, fd_.get(), IoEvent::To<&Session::OnReady>(this)) {
    event_.Watch(IoEvent::kRead);
  }

 private:
  // Ends in at most one call of Destroy, after which nothing is touched. One request a turn, so
  // that a peer that asks a lot at once does not hold up the relay.
  void OnReady(unsigned) noexcept {
    bool stays = true;
    if (answer_.empty() && rest_.empty()) stays = Read();
    if (stays && answer_.empty()) AnswerNext();
    if (stays) stays = SendAnswer();
    if (!stays) port_.Destroy(*this);
  }

  bool Read() {
    std::array<char, 4096> chunk;
    const ssize_t n = recv(fd_.get(), chunk.data(), chunk.size(), MSG_DONTWAIT);
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    rest_.assign(chunk.data(), static_cast<std::size_t>(n));
    return n != 0;
  }

  void AnswerNext() {
    std::string_view rest = rest_;
    const FrameReader::Item item =
        reader_.Next(rest, {.data = netstring::Limits::kNotAccepted, .list = kMaxRequest});
    if (item.kind == FrameReader::Kind::kFrame) answer_ = port_.Answer(item.payload);
    if (item.kind == FrameReader::Kind::kError) {
      answer_ = netstring::EncodeList({"error", Name(item.error), "requests are list frames"});
      last_ = true;
    }
    rest_.erase(0, rest_.size() - rest.size());
  }

  bool SendAnswer() {
    while (!answer_.empty()) {
      const ssize_t n =
          send(fd_.get(), answer_.data(), answer_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno != EAGAIN) return false;
      if (n < 0) break;
      answer_.erase(0, static_cast<std::size_t>(n));
    }
    // A socket that takes more calls back at once for the rest.
    event_.Watch(answer_.empty() && rest_.empty() ? IoEvent::kRead : IoEvent::kWrite);
    return !(answer_.empty() && last_);
  }

  friend class ControlPort;

  ControlPort& port_;
  UniqueFd fd_;
  IoEvent event_;
  FrameReader reader_;
  std::string rest_;  // read, not yet answered
  std::string answer_;
  bool last_ = false;  // the protocol is broken: no more after this answer
};

namespace {

UnixSocketOptions OptionsOf(const ControlConfig& config) {
  return {config.socket, config.mode, std::nullopt, std::nullopt};
}

}  // namespace

ControlPort::ControlPort(Loop& loop, const ControlConfig& config,
                         std::function<std::string()> status)
    : loop_(loop),
      status_(std::move(status)),
      path_(OptionsOf(config)),
      listener_(loop, path_.TakeListener(), *this, "unix:" + config.socket) {}

ControlPort::~ControlPort() = default;

void ControlPort::OnAccept(UniqueFd fd, const SocketAddress&) noexcept {
  if (sessions_.size() >= kMaxConnections) return;
  sessions_.push_back(std::make_unique<Session>(*this, std::move(fd)));
}

std::string ControlPort::Answer(std::string_view request) {
  std::vector<std::string_view> items;
  if (!netstring::DecodeList(request, items) || items.size() != 1) {
    return netstring::EncodeList(
        {"error", Name(ErrorCode::kBadArguments), "a request is a list of one word"});
  }
  if (items[0] == "ping") return netstring::EncodeList({"ok"});
  if (items[0] == "status") return netstring::EncodeList({"ok", status_()});
  return netstring::EncodeList({"error", Name(ErrorCode::kUnknownVerb), "known: status, ping"});
}

void ControlPort::Destroy(Session& session) {
  const auto at = std::find_if(sessions_.begin(), sessions_.end(),
                               [&](const auto& owned) { return owned.get() == &session; });
  sessions_.erase(at);
}

}  // namespace evrelay
