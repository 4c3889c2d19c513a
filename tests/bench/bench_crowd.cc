// A crowd: N subscribers, plain or over TLS, that come all at once and then listen, on one thread.
// Every subscriber's stream is checked against the one stream that was sent; a fault ends the run
// with exit code 1.
//
// It prints "ready" and waits for a line on standard input. Then it connects as fast as it can and
// prints one JSON object. Without --hold it waits for another line, sends events as fast as they
// are taken and prints what came between --warmup and --warmup + --seconds; then the producer stops
// and everything sent must arrive. It keeps its connections until standard input ends.

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/epoll.h>

#include <csignal>
#include <cstdio>
#include <limits>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "pattern.h"
#include "run.h"
#include "sockets.h"

namespace {

using bench::Checked;
using bench::FromSeconds;
using bench::Nanoseconds;
using bench::Now;
using bench::Pattern;
using bench::ToSeconds;

struct Options {
  std::uint16_t port = 0;  // the server's subscriber port
  std::string producer;    // its producer socket
  std::string ca;          // whom subscribers trust (a file); empty: no TLS
  std::size_t subscribers = 1;
  std::size_t size = 64;  // bytes of an event
  double warmup = 0.3;    // seconds
  double seconds = 2;
  bool check_all = false;  // compare every byte, not just each frame's ends
  bool hold = false;       // nothing is sent
  pid_t server = 0;        // whose processor time is told
};

// Connections that are on their way at once. The server gives each handshake seconds only.
constexpr std::size_t kMostComing = 256;

using SslContext = std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)>;
using Ssl = std::unique_ptr<SSL, decltype(&SSL_free)>;

[[noreturn]] void ThrowSsl(const std::string& what) {
  char text[256];
  ERR_error_string_n(ERR_get_error(), text, sizeof text);
  throw std::runtime_error(what + ": " + text);
}

SslContext ClientContext(const std::string& ca) {
  SslContext context(SSL_CTX_new(TLS_client_method()), &SSL_CTX_free);
  if (context == nullptr) ThrowSsl("SSL_CTX_new");
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  if (SSL_CTX_load_verify_locations(context.get(), ca.c_str(), nullptr) != 1) ThrowSsl(ca);
  // Many records a read.
  SSL_CTX_set_read_ahead(context.get(), 1);
  SSL_CTX_set_default_read_buffer_len(context.get(), bench::kRun);
  SSL_CTX_set_mode(context.get(), SSL_MODE_RELEASE_BUFFERS);
  return context;
}

// What the run has come to at one moment.
struct Sample {
  std::uint64_t time = 0;        // ns
  std::uint64_t received = 0;    // bytes, all subscribers
  std::uint64_t server_cpu = 0;  // ns
  std::uint64_t own_cpu = 0;     // ns
};

class Crowd {
 public:
  explicit Crowd(const Options& options)
      : options_(options), events_(options.size, bench::Netstring(options.size)) {
    const int error = clock_getcpuclockid(options_.server, &server_clock_);
    if (error != 0) throw std::system_error(error, std::system_category(), "--server-pid");
    if (!options_.ca.empty()) context_ = ClientContext(options_.ca);
    bench::RaiseFileLimit();
    epoll_ = Checked(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
  }

  // Connects all, and tells how long that took.
  void Come() {
    const std::uint64_t begin = Now();
    subscribers_.reserve(options_.subscribers);
    while (subscribers_.size() < options_.subscribers) {
      Connect();
      while (coming_ == kMostComing) Greet();
    }
    while (coming_ > 0) Greet();
    const std::uint64_t end = Now();
    std::printf("{\"began\": %.6f, \"seconds\": %.6f}\n", ToSeconds(begin), ToSeconds(end - begin));
    std::fflush(stdout);
  }

  void Run() {
    producer_ = bench::ConnectUnix(options_.producer);
    bench::SetOption(producer_, SOL_SOCKET, SO_SNDBUF, bench::kSendBuffer);
    Watch(EPOLL_CTL_ADD, producer_, EPOLLOUT | EPOLLET, kProducer);
    heard_ = Now();
    const std::uint64_t opens = heard_ + FromSeconds(options_.warmup);
    while (Now() < opens) Turn();
    window_begin_ = TakeSample();
    const std::uint64_t closes = opens + FromSeconds(options_.seconds);
    while (Now() < closes) Turn();
    window_end_ = TakeSample();

    // What has been begun is finished, nothing more is sent.
    due_ = (sent_ + events_.frame() - 1) / events_.frame() * events_.frame();
    while (sent_ < due_ || received_ < sent_ * subscribers_.size()) Turn();
  }

  void Report() const {
    const double events = static_cast<double>(window_end_.received - window_begin_.received) /
                          static_cast<double>(events_.frame());
    const double seconds = ToSeconds(window_end_.time - window_begin_.time);
    std::printf(
        "{\"deliveries\": %.0f, \"seconds\": %.6f, \"rate\": %.1f, \"server_cpu_s\": %.6f, "
        "\"load_cpu_s\": %.6f}\n",
        events, seconds, events / seconds,
        ToSeconds(window_end_.server_cpu - window_begin_.server_cpu),
        ToSeconds(window_end_.own_cpu - window_begin_.own_cpu));
    std::fflush(stdout);
  }

 private:
  struct Subscriber {
    int fd;
    Ssl ssl{nullptr, &SSL_free};  // none: no TLS
    std::uint64_t position = 0;   // bytes received
  };

  static constexpr std::uint64_t kForever = std::numeric_limits<std::uint64_t>::max();
  static constexpr std::uint64_t kProducer = kForever;

  void Watch(int operation, int fd, std::uint32_t what, std::uint64_t who) const {
    epoll_event wanted{.events = what, .data = {.u64 = who}};
    Checked(epoll_ctl(epoll_, operation, fd, &wanted), "epoll_ctl");
  }

  void Connect() {
    const std::size_t index = subscribers_.size();
    const int fd = bench::SubscriberSocket(index, SOCK_NONBLOCK);
    subscribers_.push_back({fd});
    const sockaddr_in address = bench::Loopback(options_.port);
    if (connect(fd, bench::AsSockaddr(address), sizeof address) != 0 && errno != EINPROGRESS) {
      Checked(-1, "connect to the subscriber port");
    }
    if (context_ != nullptr) {
      Ssl& ssl = subscribers_[index].ssl;
      ssl.reset(SSL_new(context_.get()));
      if (ssl == nullptr || SSL_set_fd(ssl.get(), fd) != 1 ||
          X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl.get()), "127.0.0.1") != 1) {
        ThrowSsl("SSL_new");
      }
    }
    Watch(EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT | EPOLLET, index);
    ++coming_;
  }

  // One turn for those that are on their way.
  void Greet() {
    const std::span<const epoll_event> ready = Ready(bench::kPatience * 1000);
    if (ready.empty()) Stuck();
    for (const epoll_event& event : ready) {
      const std::size_t index = event.data.u64;
      if (!HasCome(subscribers_[index])) continue;
      Watch(EPOLL_CTL_MOD, subscribers_[index].fd, EPOLLIN, index);
      --coming_;
    }
  }

  static bool HasCome(const Subscriber& subscriber) {
    int error = 0;
    socklen_t size = sizeof error;
    Checked(getsockopt(subscriber.fd, SOL_SOCKET, SO_ERROR, &error, &size), "getsockopt");
    if (error != 0) {
      throw std::system_error(error, std::system_category(), "connect to the subscriber port");
    }
    if (subscriber.ssl == nullptr) return true;
    const int result = SSL_connect(subscriber.ssl.get());
    if (result != 1) Again(subscriber, result, "the handshake");
    return result == 1;
  }

  // Throws unless `result`, of what was done with its TLS, only means later.
  static void Again(const Subscriber& subscriber, int result, const char* what) {
    const int error = SSL_get_error(subscriber.ssl.get(), result);
    if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) ThrowSsl(what);
  }

  // Valid until the next call.
  std::span<const epoll_event> Ready(int milliseconds) {
    const int count =
        epoll_wait(epoll_, ready_.data(), static_cast<int>(ready_.size()), milliseconds);
    return std::span(ready_).first(static_cast<std::size_t>(Checked(count, "epoll_wait")));
  }

  // One write a turn, so that reading never waits for writing.
  void Turn() {
    for (const epoll_event& event : Ready(writable_ && sent_ < due_ ? 0 : 10)) {
      if (event.data.u64 == kProducer) {
        writable_ = true;
      } else {
        Receive(event.data.u64);
      }
    }
    if (writable_ && sent_ < due_) Push();
    if (Now() - heard_ > FromSeconds(bench::kPatience)) Stuck();
  }

  void Push() {
    const std::size_t wanted = std::min<std::uint64_t>(due_ - sent_, bench::kRun);
    const ssize_t sent = send(producer_, events_.At(sent_), wanted, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) Checked(-1, "send an event");
    if (sent > 0) sent_ += static_cast<std::uint64_t>(sent);
    writable_ = sent == static_cast<ssize_t>(wanted);
  }

  // Plain: one read. TLS: all that has come, as what OpenSSL has read ahead does not wake us again.
  void Receive(std::size_t index) {
    Subscriber& subscriber = subscribers_[index];
    do {
      const std::size_t size = Read(subscriber);
      if (size == 0) return;
      const bool right = options_.check_all || ++reads_ % 16 == 0
                             ? events_.SameBytes(subscriber.position, buffer_.data(), size)
                             : events_.SameFrames(subscriber.position, buffer_.data(), size);
      if (!right) {
        throw std::runtime_error("subscriber " + std::to_string(index) + ", after " +
                                 std::to_string(subscriber.position / events_.frame()) +
                                 " events: bytes that were not sent, or not in this place");
      }
      subscriber.position += size;
      received_ += size;
      heard_ = Now();
    } while (subscriber.ssl != nullptr);
  }

  // 0: nothing is there now.
  std::size_t Read(const Subscriber& subscriber) {
    if (subscriber.ssl != nullptr) {
      std::size_t size = 0;
      const int result = SSL_read_ex(subscriber.ssl.get(), buffer_.data(), buffer_.size(), &size);
      if (result != 1) Again(subscriber, result, "read over TLS");
      return size;
    }
    const ssize_t got = recv(subscriber.fd, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return 0;
    if (got == 0) throw std::runtime_error("the server closed a connection");
    return static_cast<std::size_t>(Checked(static_cast<int>(got), "read"));
  }

  Sample TakeSample() const {
    return {.time = Now(),
            .received = received_,
            .server_cpu = Nanoseconds(server_clock_),
            .own_cpu = Nanoseconds(CLOCK_PROCESS_CPUTIME_ID)};
  }

  [[noreturn]] void Stuck() const {
    throw std::runtime_error("nothing came for " + std::to_string(bench::kPatience) + " s; " +
                             std::to_string(coming_) + " are still connecting; of " +
                             std::to_string(sent_ / events_.frame()) + " events sent to " +
                             std::to_string(subscribers_.size()) + " subscribers " +
                             std::to_string(received_ / events_.frame()) + " deliveries arrived");
  }

  const Options& options_;
  const Pattern events_;
  SslContext context_{nullptr, &SSL_CTX_free};
  clockid_t server_clock_ = 0;
  int epoll_ = -1;
  int producer_ = -1;
  bool writable_ = false;   // the producer's socket has taken all of the last write
  std::size_t coming_ = 0;  // subscribers that are on their way
  std::vector<Subscriber> subscribers_;
  std::vector<epoll_event> ready_{1024};
  std::vector<char> buffer_ = std::vector<char>(bench::kRun);

  std::uint64_t heard_ = 0;       // when the server last sent something
  std::uint64_t due_ = kForever;  // bytes the producer is to send
  std::uint64_t sent_ = 0;
  std::uint64_t received_ = 0;
  std::uint64_t reads_ = 0;
  Sample window_begin_;
  Sample window_end_;
};

Options ParseOptions(int argc, char** argv) {
  Options options;
  CLI::App app;
  app.add_option("--port", options.port)->required();
  app.add_option("--producer", options.producer);
  app.add_option("--ca", options.ca);
  app.add_option("--subscribers", options.subscribers);
  app.add_option("--size", options.size)->check(CLI::Range(Pattern::kSmallest, Pattern::kLargest));
  app.add_option("--warmup", options.warmup);
  app.add_option("--seconds", options.seconds);
  app.add_flag("--check-all", options.check_all);
  app.add_flag("--hold", options.hold);
  app.add_option("--server-pid", options.server)->required();
  app.parse(argc, argv);
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // OpenSSL writes without MSG_NOSIGNAL
  return bench::Guarded("bench-crowd", [&] {
    const Options options = ParseOptions(argc, argv);
    Crowd crowd(options);
    std::puts("ready");
    std::fflush(stdout);
    bench::AwaitLine();
    crowd.Come();
    if (!options.hold) {
      bench::AwaitLine();
      crowd.Run();
      crowd.Report();
    }
    bench::AwaitEnd();
  });
}
