// A producer: a blocking client of the producer socket, for programs on the relay's machine. It
// needs the standard library, POSIX and netstring.h, and is C++17.
//
//   evrelay::ProducerClient relay;
//   relay.Send("door opened");
//
// What travels is described in evrelay-protocol(7), what the words mean in evrelay(8). Sizes are in
// bytes; an event is any 1 to max_event of them (1 MiB, unless the relay is told otherwise), a tag
// 1 to 63. Nothing is retried.
//
// Errors: Error is an answer of the relay, and all can go on, unless the relay closes then, as it
// does after a frame that breaks the protocol. std::system_error is the end of the connection;
// ECONNRESET: the relay has closed it, EPROTO: this is no relay. After that, or after
// std::bad_alloc, only what has been received before can still be had; make a new client to go on.
//
// Blocking: a call returns when the kernel has taken what it sends and the answer that it returns
// has come; it reads what comes meanwhile, so neither side waits for the other for ever. While a
// relay with slow_subscriber.policy block holds producers back, calls wait. set_patience bounds it.
//
// Memory: answers and final answers are kept until they are asked for. The relay closes a producer
// that leaves more than 4 MiB of them unread: with requests suspended, call something now and then.
//
// Thread safety: none; one thread at a time. No signal is raised, EINTR is no error, and the
// descriptor is not inherited by other programs.

#ifndef EVRELAY_PRODUCER_H_
#define EVRELAY_PRODUCER_H_

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "evrelay/netstring.h"

namespace evrelay {

class ProducerClient {
 public:
  // The relay's answer `error CODE TEXT`. Codes are for programs: no-subscriber, too-big, forbidden
  // and the others of evrelay-protocol(7). Texts are for people and may change.
  class Error : public std::runtime_error {
   public:
    Error(const std::string& code, const std::string& text)
        : std::runtime_error(code + ": " + text), code_(code), text_(text) {}
    const std::string& code() const { return code_; }
    const std::string& text() const { return text_; }

   private:
    std::string code_;
    std::string text_;
  };

  // The numbers of a suspended request. In its event they stood for $T(id_index) and $T(id_label).
  struct Suspended {
    std::uint32_t index = 0;
    std::uint32_t label = 0;

    friend bool operator==(const Suspended& a, const Suspended& b) {
      return a.index == b.index && a.label == b.label;
    }
    friend bool operator!=(const Suspended& a, const Suspended& b) { return !(a == b); }
  };

  enum class Outcome {
    kResumed,   // a script has resumed it, with `data`
    kExpired,   // its timeout is over
    kDraining,  // the relay is stopping
  };

  // How a suspended request has ended. Each has exactly one of these.
  struct Final {
    Suspended request;
    Outcome outcome = Outcome::kResumed;
    std::string data;
  };

  using Milliseconds = std::chrono::milliseconds;

  // Connects to the socket at `path`. Empty: to $EVRELAY_SOCKET, else to the first that exists of
  // $XDG_RUNTIME_DIR/evrelay/producer.sock and /run/evrelay/producer.sock. Waits up to 10 s for a
  // relay that does not accept.
  explicit ProducerClient(const std::string& path = "")
      : socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    if (socket_.fd < 0) Throw(errno, "socket");
    Connect(path.empty() ? DefaultPath() : path);
  }
  // From now on a call fails, with ETIMEDOUT, that has waited so long for a relay that neither
  // takes nor says anything. As after other errors of the connection, make a new client then.
  // Without a call of this: waits without end.
  void set_patience(Milliseconds patience) { patience_ = patience; }

  // Closes. What was sent will have been dealt with for certain if the last call was Ping.
  ~ProducerClient() = default;
  ProducerClient(const ProducerClient&) = delete;
  ProducerClient& operator=(const ProducerClient&) = delete;

  // One event to all subscribers, without an answer. If the relay does not accept it, it says so
  // and closes; that is thrown by one of the calls that follow.
  void Send(std::string_view evdata) {
    if (evdata.empty()) throw Error("bad-arguments", "evdata is empty");
    if (!Write(netstring::Encode(evdata))) ThrowEnd();
  }

  // One event to all subscribers, or to all that have the tag. Returns how many it is queued for; 0
  // is no error.
  std::uint64_t Relay(std::string_view evdata) { return Count(Request({"relay", evdata})); }
  std::uint64_t Multicast(std::string_view evdata, std::string_view etag) {
    return Count(Request({"multicast", evdata, etag}));
  }
  // To one subscriber that has the tag. False: there is none.
  bool Unicast(std::string_view evdata, std::string_view etag) {
    try {
      Request({"unicast", evdata, etag});
      return true;
    } catch (const Error& error) {
      if (error.code() != "no-subscriber") throw;
      return false;
    }
  }

  // Everything that was sent before has been dealt with.
  void Ping() { Request({"ping"}); }

  // Like the above, but the request is suspended until a script resumes it or `timeout` (1 ms to 1
  // h; none: async.timeout of the relay) is over. Its final answer is got with WaitFinal. Error
  // no-subscriber: there is nobody to ask, and nothing is suspended.
  Suspended AsyncRelay(std::string_view evdata, std::optional<Milliseconds> timeout = {}) {
    return Suspend({"async_relay", evdata}, timeout);
  }
  Suspended AsyncMulticast(std::string_view evdata, std::string_view etag,
                           std::optional<Milliseconds> timeout = {}) {
    return Suspend({"async_multicast", evdata, etag}, timeout);
  }
  Suspended AsyncUnicast(std::string_view evdata, std::string_view etag,
                         std::optional<Milliseconds> timeout = {}) {
    return Suspend({"async_unicast", evdata, etag}, timeout);
  }

  // The final answer that came first, or that of this request. Each is returned once, in whatever
  // order they are asked for. None: not within `timeout`; 0 looks without waiting.
  std::optional<Final> WaitFinal(Milliseconds timeout) {
    return FindFinal([](const Final&) { return true; }, timeout);
  }
  std::optional<Final> WaitFinal(const Suspended& request, Milliseconds timeout) {
    return FindFinal([&](const Final& one) { return one.request == request; }, timeout);
  }

  // Pipelining: many requests, then their answers, in the same order. Calls that wait for an answer
  // of their own may come between.
  void Post(std::initializer_list<std::string_view> request) { PostItems(request); }

  // The answer to the oldest request that was posted and not asked for yet, such as {"ok", "2"}. An
  // Error is thrown, and counts as that answer. std::logic_error: nothing was posted.
  std::vector<std::string> ReadAnswer() {
    if (open_ == 0) throw std::logic_error("ReadAnswer without a request that was posted");
    while (answers_.empty()) ReadMore();
    const Answer answer = std::move(answers_.front());
    answers_.pop_front();
    --open_;
    return Check(answer);
  }

 private:
  using Clock = std::chrono::steady_clock;
  using Answer = std::vector<std::string>;

  struct Socket {
    explicit Socket(int number) : fd(number) {}
    Socket(const Socket&) = delete;
    Socket& operator=(const Socket&) = delete;
    ~Socket() {
      if (fd >= 0) ::close(fd);
    }
    const int fd;
  };

  [[noreturn]] static void Throw(int error, const std::string& what) {
    throw std::system_error(error, std::generic_category(), what);
  }

  static std::string DefaultPath() {
    const char* named = std::getenv("EVRELAY_SOCKET");
    if (named != nullptr && *named != '\0') return named;
    std::string tried;
    const char* of_session = std::getenv("XDG_RUNTIME_DIR");
    for (const char* directory : {of_session, "/run"}) {
      if (directory == nullptr || *directory != '/') continue;
      const std::string path = std::string(directory) + "/evrelay/producer.sock";
      struct stat info {};
      if (::stat(path.c_str(), &info) == 0 || errno == EACCES) return path;
      tried += (tried.empty() ? "" : " nor ") + path;
    }
    Throw(ENOENT, "no relay found, neither $EVRELAY_SOCKET nor " + tried);
  }

  void Connect(const std::string& path) {
    const std::string what = "connect " + path;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) Throw(ENAMETOOLONG, what);
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    const timeval longest{10, 0};  // for connect; what is sent is never waited for in send
    ::setsockopt(socket_.fd, SOL_SOCKET, SO_SNDTIMEO, &longest, sizeof longest);
    while (::connect(socket_.fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) !=
           0) {
      if (errno != EINTR) Throw(errno == EAGAIN ? ETIMEDOUT : errno, what);
    }
  }

  // --- requests ---

  template <class Items>
  void PostItems(const Items& items) {
    ++open_;  // first: it may be answered before all of it is written
    if (!Write(netstring::EncodeList(items)) && answers_.size() < open_) ThrowEnd();
  }

  // Posts and returns the answer, which is the last of all that are open.
  template <class Items = std::initializer_list<std::string_view>>
  Answer Request(const Items& items) {
    PostItems(items);
    while (answers_.size() < open_) ReadMore();
    const Answer answer = std::move(answers_.back());
    answers_.pop_back();
    --open_;
    return Check(answer);
  }

  Suspended Suspend(std::vector<std::string_view> items, std::optional<Milliseconds> timeout) {
    const std::string ms = timeout ? std::to_string(timeout->count()) : "";
    if (timeout) items.push_back(ms);
    const Answer answer = Request(items);
    if (answer.size() != 3) ThrowProtocol();
    return {Number<std::uint32_t>(answer[1]), Number<std::uint32_t>(answer[2])};
  }

  std::uint64_t Count(const Answer& answer) {
    if (answer.size() != 2) ThrowProtocol();
    return Number<std::uint64_t>(answer[1]);
  }

  static const Answer& Check(const Answer& answer) {
    if (answer[0] == "error") throw Error(answer[1], answer[2]);
    return answer;
  }

  template <class T>
  T Number(std::string_view digits) {
    T number = 0;
    const char* end = digits.data() + digits.size();
    const auto read = std::from_chars(digits.data(), end, number);
    if (read.ec != std::errc() || read.ptr != end) ThrowProtocol();
    return number;
  }

  // --- the connection ---

  // False: the relay takes no more, see ThrowEnd. Reads before it writes, so that nobody who calls
  // has answers pile up.
  bool Write(std::string_view bytes) {
    while (!bytes.empty()) {
      Receive();
      if (ended_ || farewell_) return false;
      const ssize_t n = ::send(socket_.fd, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (n >= 0) {
        bytes.remove_prefix(static_cast<std::size_t>(n));
      } else if (errno == EAGAIN) {
        WaitPatiently(POLLIN | POLLOUT);
      } else if (errno == EPIPE || errno == ECONNRESET) {
        WaitPatiently(POLLIN);  // there are last words, or the end
      } else if (errno != EINTR) {
        Throw(errno, "send to the relay");
      }
    }
    return true;
  }

  void ReadMore() {
    if (ended_) ThrowEnd();
    WaitPatiently(POLLIN);
    Receive();
  }

  template <class Matches>
  std::optional<Final> FindFinal(Matches matches, Milliseconds timeout) {
    const Clock::time_point now = Clock::now();
    const auto longest = std::chrono::duration_cast<Milliseconds>(Clock::time_point::max() - now);
    const Clock::time_point deadline = now + std::clamp(timeout, Milliseconds::zero(), longest);
    while (true) {
      const auto found = std::find_if(finals_.begin(), finals_.end(), matches);
      if (found != finals_.end()) {
        Final answer = std::move(*found);
        finals_.erase(found);
        return answer;
      }
      if (ended_) ThrowEnd();
      if (!Wait(POLLIN, deadline)) return std::nullopt;
      Receive();
    }
  }

  void WaitPatiently(short events) {
    const auto end = patience_ ? Clock::now() + *patience_ : Clock::time_point::max();
    if (Wait(events, end)) return;
    ended_ = true;
    Throw(ETIMEDOUT, "the relay neither takes nor says anything");
  }

  // Waits until the socket has one of `events` or an end. False: not before the deadline.
  bool Wait(short events, Clock::time_point deadline) {
    while (true) {
      const auto left = std::chrono::ceil<Milliseconds>(
          std::max(deadline - Clock::now(), Clock::duration::zero()));
      const int ms = static_cast<int>(std::min<Milliseconds::rep>(left.count(), INT_MAX));
      pollfd socket{socket_.fd, events, 0};
      const int ready = ::poll(&socket, 1, ms);
      if (ready > 0) return true;
      if (ready < 0 && errno != EINTR) Throw(errno, "poll");
      if (Clock::now() >= deadline) return false;
    }
  }

  // Takes in what has come, without waiting for more.
  void Receive() {
    char chunk[16 * 1024];
    const ssize_t n = ended_ ? 0 : ::recv(socket_.fd, chunk, sizeof chunk, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n < 0 && errno != ECONNRESET) Throw(errno, "read from the relay");
    if (n <= 0) {
      ended_ = true;
      return;
    }
    received_.append(chunk, static_cast<std::size_t>(n));
    netstring::Limits limits;
    limits.data = netstring::Limits::kNotAccepted;
    limits.list = UINT32_MAX;
    std::string_view rest = received_;
    while (true) {
      const netstring::Decoded frame = netstring::Decode(rest, limits);
      if (frame.status == netstring::Status::kMore) break;
      if (frame.status == netstring::Status::kError) ThrowProtocol();
      OnAnswer(frame.payload);
      rest.remove_prefix(frame.consumed);
    }
    received_.erase(0, received_.size() - rest.size());
  }

  void OnAnswer(std::string_view payload) {
    std::vector<std::string_view> items;
    if (!netstring::DecodeList(payload, items) || items.empty()) ThrowProtocol();
    const std::string_view word = items[0];
    if (word == "resumed" && items.size() == 4) {
      AddFinal(items[1], items[2], Outcome::kResumed, items[3]);
    } else if (word == "expired" && items.size() == 3) {
      AddFinal(items[1], items[2], Outcome::kExpired, {});
    } else if (word == "error" && items.size() == 4) {
      AddFinal(items[2], items[3], Outcome::kDraining, {});
    } else if (word == "error" ? items.size() != 3 : word != "ok" && word != "suspended") {
      ThrowProtocol();
    } else if (answers_.size() < open_) {
      answers_.emplace_back(items.begin(), items.end());
    } else if (word == "error") {
      farewell_.emplace(std::string(items[1]), std::string(items[2]));
    } else {
      ThrowProtocol();
    }
  }

  void AddFinal(std::string_view index, std::string_view label, Outcome outcome,
                std::string_view data) {
    finals_.push_back(
        {{Number<std::uint32_t>(index), Number<std::uint32_t>(label)}, outcome, std::string(data)});
  }

  [[noreturn]] void ThrowEnd() const {
    if (farewell_) throw *farewell_;
    Throw(ECONNRESET, "the relay has closed the connection");
  }
  [[noreturn]] void ThrowProtocol() {
    ended_ = true;
    Throw(EPROTO, "what came from the socket is no answer of evrelay");
  }

  Socket socket_;
  std::string received_;           // the beginning of an answer
  std::deque<Answer> answers_;     // in the order of the requests, not asked for yet
  std::size_t open_ = 0;           // requests posted and not asked for: answers_ and those to come
  std::deque<Final> finals_;       // in the order they came, not asked for yet
  std::optional<Error> farewell_;  // an error that answers no request: about a Send, then the end
  std::optional<Milliseconds> patience_;
  bool ended_ = false;  // the relay has closed, or is not waited for any more
};

}  // namespace evrelay

#endif  // EVRELAY_PRODUCER_H_
