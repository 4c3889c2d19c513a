#include "admin/control_port.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <new>
#include <utility>

#include "admin/clients.h"
#include "evrelay/netstring.h"
#include "metrics/reasons.h"

namespace evrelay {

namespace {

struct ControlVerb {
  std::string_view name;
  std::size_t least;  // operands
  std::size_t most;
  std::string_view usage;
};

constexpr std::array<ControlVerb, 6> kVerbs{{
    {"status", 0, 0, "status takes no operand"},
    {"clients", 0, 1, "clients takes one conidx at most, from which to begin"},
    {"close", 1, 1, "close takes one conidx"},
    {"reload", 0, 0, "reload takes no operand"},
    {"drain", 0, 0, "drain takes no operand"},
    {"ping", 0, 0, "ping takes no operand"},
}};

constexpr std::string_view kKnown = "known: status, clients, close, reload, drain, ping";

std::string Ok() { return netstring::EncodeList({"ok"}); }

std::string Error(std::string_view code, std::string_view text) {
  return netstring::EncodeList({"error", code, text});
}

std::string BadArguments(std::string_view text) {
  return Error(Name(ErrorCode::kBadArguments), text);
}

std::string Draining() {
  return Error(Name(ErrorCode::kDraining), "the relay drains; it reloads nothing any more");
}

std::optional<std::uint32_t> ReadConidx(std::string_view text) {
  std::uint32_t conidx = 0;
  const char* end = text.data() + text.size();
  const auto read = std::from_chars(text.data(), end, conidx);
  if (read.ec != std::errc() || read.ptr != end) return std::nullopt;
  return conidx;
}

constexpr std::string_view kNoConidx = "this is no conidx; give a whole number from 0";

UnixSocketOptions OptionsOf(const ControlConfig& config) {
  return {config.socket, config.mode, std::nullopt, std::nullopt};
}

}  // namespace

class ControlPort::Session {
 public:
  Session(ControlPort& port, UniqueFd fd)
      : port_(port),
        fd_(std::move(fd)),
        event_(port.loop_, fd_.get(), IoEvent::To<&Session::OnReady>(this)),
        hangup_(port.hangups_, HangupEvent::To<&Session::OnHangup>(this)) {
    event_.Watch(IoEvent::kRead);
  }

  // It waits for the reload with this number. Meanwhile it is not read, so another watch tells when
  // it goes away.
  void AwaitReload(std::uint64_t number) {
    awaited_ = number;
    hangup_.Watch(fd_.get());
  }
  // 0: it waits for none.
  std::uint64_t awaited() const { return awaited_; }

  // What it waits for has come about: `answer` makes what it is told. Sent at once, as the relay
  // may be about to end.
  template <class Answer>
  void EndWaiting(const Answer& answer) noexcept {
    awaited_ = 0;
    try {
      answer_ = answer();
    } catch (const std::bad_alloc&) {
      last_ = true;
    }
    // A connection that is broken is found so once more, in a turn of its own.
    if (!SendAnswer()) event_.Watch(IoEvent::kWrite);
  }

 private:
  // Ends in at most one call of Destroy, after which nothing is touched. One request of each peer a
  // turn, so that one that asks a lot at once does not hold up the relay.
  void OnReady(unsigned ready) noexcept {
    bool stays = (ready & IoEvent::kLost) == 0;
    try {
      if (stays && answer_.empty() && rest_.empty()) stays = Read();
      if (stays && answer_.empty()) AnswerNext();
      if (stays) stays = SendAnswer();
    } catch (const std::bad_alloc&) {
      stays = false;
    }
    if (!stays) port_.Destroy(*this);
  }

  void OnHangup() noexcept { port_.Destroy(*this); }

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
    if (item.kind == FrameReader::Kind::kFrame) answer_ = port_.Answer(*this, item.payload);
    if (item.kind == FrameReader::Kind::kError) {
      answer_ = Error(Name(item.error), "requests are list frames");
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
    Watch();
    return !(answer_.empty() && last_);
  }

  void Watch() {
    if (awaited_ != 0) {
      event_.Watch(0);
    } else {
      // A socket that takes more calls back at once for the rest.
      event_.Watch(answer_.empty() && rest_.empty() ? IoEvent::kRead : IoEvent::kWrite);
    }
  }

  ControlPort& port_;
  UniqueFd fd_;
  IoEvent event_;
  HangupEvent hangup_;
  FrameReader reader_;
  std::string rest_;  // read, not yet answered
  std::string answer_;
  std::uint64_t awaited_ = 0;  // the reload whose end is its answer
  bool last_ = false;          // the protocol is broken: no more after this answer
};

ControlPort::ControlPort(Loop& loop, const ControlConfig& config, Hub& hub, Operator& daemon)
    : loop_(loop),
      hub_(hub),
      daemon_(daemon),
      hangups_(loop),
      path_(OptionsOf(config)),
      listener_(loop, path_.TakeListener(), *this, "unix:" + config.socket) {}

ControlPort::~ControlPort() = default;

void ControlPort::OnReloaded(std::uint64_t number, bool done,
                             const std::vector<std::string>& lines) {
  const auto answer = [&] {
    std::string text;
    for (const std::string& line : lines) text += (text.empty() ? "" : "\n") + line;
    if (!done) return Error("reload-failed", text);
    return text.empty() ? Ok() : netstring::EncodeList({"ok", text});
  };
  for (const auto& session : sessions_) {
    if (session->awaited() == number) session->EndWaiting(answer);
  }
}

void ControlPort::OnDrain() {
  for (const auto& session : sessions_) {
    if (session->awaited() != 0) session->EndWaiting(Draining);
  }
}

void ControlPort::OnAccept(UniqueFd fd, const SocketAddress&) noexcept {
  if (sessions_.size() >= kMaxConnections) return;
  try {
    sessions_.push_back(std::make_unique<Session>(*this, std::move(fd)));
  } catch (const std::bad_alloc&) {
    // As if there were too many.
  }
}

std::string ControlPort::Answer(Session& session, std::string_view request) {
  std::vector<std::string_view> items;
  if (!netstring::DecodeList(request, items) || items.empty()) {
    return BadArguments("a request is a list of a verb and its operands");
  }
  const std::string_view name = items[0];
  const auto verb = std::find_if(kVerbs.begin(), kVerbs.end(),
                                 [name](const ControlVerb& known) { return known.name == name; });
  if (verb == kVerbs.end()) return Error(Name(ErrorCode::kUnknownVerb), kKnown);
  const std::size_t operands = items.size() - 1;
  if (operands < verb->least || operands > verb->most) return BadArguments(verb->usage);

  if (name == "status") return netstring::EncodeList({"ok", daemon_.Status()});
  if (name == "clients") return Clients(operands == 0 ? "0" : items[1]);
  if (name == "close") return Close(items[1]);
  if (name == "reload") return Reload(session);
  if (name == "drain") daemon_.Drain();
  return Ok();
}

std::string ControlPort::Clients(std::string_view from) {
  const std::optional<std::uint32_t> conidx = ReadConidx(from);
  if (!conidx) return BadArguments(kNoConidx);
  return netstring::EncodeList({"ok", ClientsJson(hub_, *conidx, kMaxClients)});
}

std::string ControlPort::Close(std::string_view conidx) {
  const std::optional<std::uint32_t> read = ReadConidx(conidx);
  if (!read) return BadArguments(kNoConidx);
  switch (hub_.Close(*read)) {
    case Hub::CloseResult::kBegun:
      break;
    case Hub::CloseResult::kNoConnection:
      return Error("no-connection", "no connection has conidx " + std::to_string(*read));
    case Hub::CloseResult::kClosing:
      return Error("closing", "the close of conidx " + std::to_string(*read) + " has begun before");
  }
  return Ok();
}

std::string ControlPort::Reload(Session& session) {
  const std::optional<std::uint64_t> number = daemon_.WantReload();
  if (!number) return Draining();
  session.AwaitReload(*number);
  return {};
}

void ControlPort::Destroy(Session& session) {
  const auto at = std::find_if(sessions_.begin(), sessions_.end(),
                               [&](const auto& owned) { return owned.get() == &session; });
  sessions_.erase(at);
}

}  // namespace evrelay
