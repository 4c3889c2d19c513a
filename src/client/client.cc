#include "client/client.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <stdexcept>
#include <utility>

#include "net/socket.h"
#include "system/paths.h"

namespace evrelay {

namespace {

constexpr std::size_t kReadSize = std::size_t{256} * 1024;

// Most answers are short. The longest are those of hooks that resume a request: 4 MiB.
constexpr netstring::Limits kAnswers{.data = netstring::Limits::kNotAccepted, .list = 16 << 20};

// The most that max_event can be set to.
constexpr netstring::Limits kEvents{.data = 1 << 30};

constexpr std::string_view kHowToStart = "start the relay with: evrelay serve -c FILE";

std::string Beside(const std::string& producer_socket) {
  return producer_socket.substr(0, producer_socket.rfind('/') + 1) + "control.sock";
}

// `given`, else the default place: $EVRELAY_SOCKET or the first candidate that exists. With
// `control` the control socket beside each.
std::string ResolvePath(const std::string& given, bool control) {
  if (!given.empty()) return given;
  const char* named = std::getenv("EVRELAY_SOCKET");
  if (named != nullptr && *named != '\0') return control ? Beside(named) : named;

  std::string tried;
  for (const std::string& candidate : ClientSocketCandidates()) {
    std::string path = control ? Beside(candidate) : candidate;
    struct stat info {};
    if (::stat(path.c_str(), &info) == 0 || errno == EACCES) return path;
    tried += "\n  " + path;
  }
  throw std::runtime_error("no relay found; these paths were tried:" + tried + "\n" +
                           std::string(kHowToStart) + ", or name its socket with --socket PATH" +
                           (control ? "" : " or $EVRELAY_SOCKET"));
}

// What an operator can do about a connect to `path` that failed.
std::string Advice(const std::string& path) {
  if (::access(path.c_str(), W_OK) != 0 && errno != ENOENT) {
    return "who may use the socket is its owner's choice: ls -l " + path;
  }
  return "the relay is not running or has its socket elsewhere; " + std::string(kHowToStart);
}

Client Connect(const std::string& path) {
  std::string error;
  UniqueFd socket = ConnectUnix(path, error);
  if (!socket) throw std::runtime_error(error + "\n" + Advice(path));
  return Client(std::move(socket), kAnswers);
}

bool ReadNumber(std::string_view text, std::uint32_t& number) {
  const char* end = text.data() + text.size();
  const auto read = std::from_chars(text.data(), end, number);
  return read.ec == std::errc() && read.ptr == end;
}

}  // namespace

Client::Client(UniqueFd socket, const netstring::Limits& limits)
    : socket_(std::move(socket)), limits_(limits), buffer_(kReadSize, '\0') {}

Client::Receipt Client::Receive() {
  const ssize_t n = ::recv(fd(), buffer_.data(), buffer_.size(), MSG_DONTWAIT);
  if (n > 0) {
    unread_ = std::string_view(buffer_).substr(0, static_cast<std::size_t>(n));
    return Receipt::kBytes;
  }
  if (n == 0) return Receipt::kEof;
  if (errno == EAGAIN || errno == EINTR) return Receipt::kNothing;
  return Receipt::kBroken;
}

bool Client::Send(std::string_view& bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno == EAGAIN;
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

void Client::FinishSending() { ::shutdown(fd(), SHUT_WR); }

Client ConnectProducer(const std::string& path) { return Connect(ResolvePath(path, false)); }

Client ConnectControl(const std::string& path) { return Connect(ResolvePath(path, true)); }

Client ConnectSubscriber(const BindAddress& address) {
  std::string error;
  UniqueFd socket = address.is_unix() ? ConnectUnix(address.unix_path, error)
                                      : ConnectTcp(address.host, address.port, error);
  if (!socket) {
    throw std::runtime_error(error + "\nis it the relay's bind_addr? " + std::string(kHowToStart));
  }
  return Client(std::move(socket), kEvents);
}

std::optional<Answer> ParseAnswer(const FrameReader::Item& frame) {
  std::vector<std::string_view> items;
  if (frame.type != netstring::Type::kList || !netstring::DecodeList(frame.payload, items)) {
    return std::nullopt;
  }
  Answer answer;
  if (!items.empty() && items.size() <= 2 && items[0] == "ok") {
    answer.ok = true;
    if (items.size() == 2) answer.argument = items[1];
    return answer;
  }
  if (items.size() == 3 && items[0] == "error") {
    answer.code = items[1];
    answer.text = items[2];
    return answer;
  }
  return std::nullopt;
}

std::optional<AsyncAnswer> ParseAsyncAnswer(const FrameReader::Item& frame) {
  using Kind = AsyncAnswer::Kind;
  std::vector<std::string_view> items;
  if (frame.type != netstring::Type::kList || !netstring::DecodeList(frame.payload, items)) {
    return std::nullopt;
  }
  AsyncAnswer answer;
  std::size_t numbers = 1;  // where INDEX and LABEL stand
  if (items.size() == 3 && items[0] == "suspended") {
    answer.kind = Kind::kSuspended;
  } else if (items.size() == 4 && items[0] == "resumed") {
    answer.kind = Kind::kResumed;
    answer.data = items[3];
  } else if (items.size() == 3 && items[0] == "expired") {
    answer.kind = Kind::kExpired;
  } else if (items.size() == 4 && items[0] == "error" && items[1] == "draining") {
    answer.kind = Kind::kDraining;
    numbers = 2;
  } else {
    return std::nullopt;
  }
  if (!ReadNumber(items[numbers], answer.request.index) ||
      !ReadNumber(items[numbers + 1], answer.request.label)) {
    return std::nullopt;
  }
  return answer;
}

}  // namespace evrelay
