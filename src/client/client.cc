#include "client/client.h"

#include <errno.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <cstdlib>
#include <stdexcept>
#include <utility>

#include "net/socket.h"
#include "system/paths.h"

namespace evrelay {

namespace {

constexpr std::size_t kReadSize = std::size_t{256} * 1024;

// What a TLS handshake may take.
constexpr std::chrono::seconds kHandshakeTime{10};

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
  return Client(std::make_unique<PlainTransport>(std::move(socket)), kAnswers);
}

// What a person can do about a handshake that failed.
std::string Advice(TlsFailure failure) {
  switch (failure) {
    case TlsFailure::kUnknownCa:
      return "\nname the authority that has signed its certificate with --ca FILE";
    case TlsFailure::kBadCertificate:
      return "\nif the certificate has another name, give that with --server-name NAME";
    case TlsFailure::kProtocol:
    case TlsFailure::kTimeout:
    case TlsFailure::kClosed:
      return "\ndoes this listener of the relay speak TLS?";
    default:
      return {};
  }
}

void ShakeHands(TlsTransport& transport, const std::string& with) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point deadline = Clock::now() + kHandshakeTime;
  const auto fail = [&with](TlsFailure failure, const std::string& words) {
    throw std::runtime_error("TLS with " + with + " failed (" + std::string(Name(failure)) +
                             "): " + words + Advice(failure));
  };
  while (true) {
    const TlsTransport::Handshaken shaken = transport.Handshake();
    if (shaken.progress == TlsTransport::Progress::kDone) return;
    if (shaken.progress == TlsTransport::Progress::kFailed) fail(shaken.failure, shaken.words);
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) fail(TlsFailure::kTimeout, "the relay does not answer");
    pollfd ready{transport.fd(), POLLIN, 0};
    if (shaken.waits_to_send) ready.events = POLLOUT;
    ::poll(&ready, 1, static_cast<int>(left));
  }
}

bool ReadNumber(std::string_view text, std::uint32_t& number) {
  const char* end = text.data() + text.size();
  const auto read = std::from_chars(text.data(), end, number);
  return read.ec == std::errc() && read.ptr == end;
}

}  // namespace

Client::Client(std::unique_ptr<Transport> transport, const netstring::Limits& limits)
    : transport_(std::move(transport)), limits_(limits), buffer_(kReadSize, '\0') {}

Client::Receipt Client::Receive() {
  const Transport::Received received = transport_->Receive(buffer_.data(), buffer_.size());
  switch (received.status) {
    case Transport::Status::kSome:
      unread_ = std::string_view(buffer_).substr(0, received.bytes);
      return Receipt::kBytes;
    case Transport::Status::kAgain:
      return Receipt::kNothing;
    case Transport::Status::kEnd:
      return Receipt::kEof;
    case Transport::Status::kBroken:
      break;
  }
  return Receipt::kBroken;
}

bool Client::Send(std::string_view& bytes) {
  if (bytes.empty()) return true;
  const iovec piece{const_cast<char*>(bytes.data()), bytes.size()};  // iovec knows no const
  const Transport::Sent sent = transport_->Send(&piece, 1);
  if (sent.broken) return false;
  bytes.remove_prefix(sent.bytes);
  return true;
}

void Client::FinishSending() { transport_->EndSending(); }

Client ConnectProducer(const std::string& path) { return Connect(ResolvePath(path, false)); }

Client ConnectControl(const std::string& path) { return Connect(ResolvePath(path, true)); }

Client ConnectSubscriber(const BindAddress& address, const TlsContext* tls,
                         const std::string& server) {
  std::string error;
  UniqueFd socket = address.is_unix() ? ConnectUnix(address.unix_path, error)
                                      : ConnectTcp(address.host, address.port, error);
  if (!socket) {
    throw std::runtime_error(error + "\nis it the relay's bind_addr? " + std::string(kHowToStart));
  }
  if (tls == nullptr) {
    return Client(std::make_unique<PlainTransport>(std::move(socket)), kEvents);
  }
  auto transport = tls->Connect(std::move(socket), server.empty() ? address.host : server);
  ShakeHands(*transport, address.ToString());
  return Client(std::move(transport), kEvents);
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
