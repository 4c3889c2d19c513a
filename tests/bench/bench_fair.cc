// The load of a fairness run: a quiet source of 64 B events at a fixed rate, of which the latency
// is told, and beside it a noisy one, or many subscribers that are sent nothing.
//
// --subscribers N connect; the first --listeners of them are to receive the quiet events. They come
//   --quiet relay       as "relay" requests of a producer; everybody listens
//   --quiet multicast   as "multicast" requests to the tag "busy", which the server's script gives
//                       to the listeners
//   --quiet message     as messages of the first subscriber, which the server's script relays
// A noisy source sends as fast as it is taken, or --noise-rate a second:
//   --noise events      1 KiB events of another producer, which all listeners receive too
//   --noise messages    64 B messages of the second subscriber, which the script does not relay
//
// Each source's stream is checked in each listener, byte by byte, and that the others receive
// nothing; a fault ends the run with exit code 1. It connects, prints "connected", waits for a line
// on standard input, runs, prints one JSON object and keeps its connections until standard input
// ends. Times count from when an event was due: until each delivery, and until its request was
// answered. The quiet source has a thread of its own, so that it is held up by the server only.

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "evrelay/netstring.h"
#include "histogram.h"
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

constexpr std::size_t kQuietSize = 64;  // bytes of an event

struct Options {
  std::uint16_t port = 0;  // the server's subscriber port
  std::string producer;    // its producer socket
  std::size_t subscribers = 10;
  std::size_t listeners = 10;
  std::string quiet = "relay";
  double rate = 100;  // quiet events a second
  std::string noise;  // none: no noisy source
  double noise_rate = 0;
  double warmup = 0.3;  // seconds
  double seconds = 2;
  pid_t server = 0;  // whose processor time is told
};

// What the run has come to at one moment.
struct Sample {
  std::uint64_t time = 0;        // ns
  std::uint64_t delivered = 0;   // quiet events, all listeners
  std::uint64_t noise = 0;       // bytes sent by the noisy source
  std::uint64_t server_cpu = 0;  // ns
};

// When events are due.
struct Schedule {
  std::uint64_t start = 0;     // ns, as the others
  std::uint64_t opens = 0;     // events that are due from then on count
  std::uint64_t interval = 0;  // between two

  std::uint64_t DueTime(std::uint64_t event) const { return start + (event + 1) * interval; }

  // Adds what has passed until `now` since event number `event` was due.
  void Count(bench::Histogram& times, std::uint64_t event, std::uint64_t now) const {
    if (DueTime(event) >= opens) times.Add(now - DueTime(event));
  }
};

// What is sent: one period of events, over and over.
struct Stream {
  std::string text;
  std::size_t frame = 1;  // bytes of one event

  // Sends on from position `from`, `most` bytes at most; how many were taken.
  std::uint64_t Send(int fd, std::uint64_t from, std::uint64_t most, int flags) const {
    const std::size_t at = from % text.size();
    const std::size_t size = std::min<std::uint64_t>(most, text.size() - at);
    const ssize_t sent = send(fd, text.data() + at, size, flags | MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) Checked(-1, "send");
    return sent < 0 ? 0 : static_cast<std::uint64_t>(sent);
  }
};

// The quiet source. Begin, Finish, and when it has finished, what it has come to.
class Quiet {
 public:
  // `answer`: to each of its requests; empty: it has none to await.
  Quiet(int fd, Stream stream, std::string answer)
      : fd_(fd), stream_(std::move(stream)), answer_(std::move(answer)) {
    const timeval patience{.tv_sec = bench::kPatience, .tv_usec = 0};
    Checked(setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience), "setsockopt");
  }
  Quiet(const Quiet&) = delete;
  Quiet& operator=(const Quiet&) = delete;
  ~Quiet() {
    last_ = true;
    if (thread_.joinable()) thread_.join();
  }

  void Begin(const Schedule& schedule) {
    schedule_ = schedule;
    thread_ = std::thread([this] {
      try {
        Run();
      } catch (...) {
        error_ = std::current_exception();
      }
      finished_ = true;
    });
  }

  // Nothing more is due; what was is still sent and answered.
  void Finish() { last_ = true; }

  // Throws what has gone wrong.
  bool finished() const {
    if (finished_ && error_ != nullptr) std::rethrow_exception(error_);
    return finished_;
  }

  std::uint64_t events() const { return sent_ / stream_.frame; }
  const bench::Histogram& answers() const { return answers_; }

 private:
  void Run() {
    const int ticks = Checked(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), "timerfd_create");
    const itimerspec every{.it_interval = bench::ToTimespec(schedule_.interval),
                           .it_value = bench::ToTimespec(schedule_.DueTime(0))};
    Checked(timerfd_settime(ticks, TFD_TIMER_ABSTIME, &every, nullptr), "timerfd_settime");
    std::array<pollfd, 2> watched{{{ticks, POLLIN, 0}, {answer_.empty() ? -1 : fd_, POLLIN, 0}}};
    std::uint64_t due = 0;
    heard_ = Now();
    while (!last_ || answered_ < events() * answer_.size()) {
      Checked(poll(watched.data(), watched.size(), 10), "poll");
      if (watched[1].revents != 0) ReadAnswers();
      if (watched[0].revents != 0 && !last_) {
        std::uint64_t count = 0;
        Checked(static_cast<int>(read(ticks, &count, sizeof count)), "read the timer");
        due += count * stream_.frame;
      }
      while (sent_ < due) {
        const std::uint64_t taken = stream_.Send(fd_, sent_, due - sent_, 0);
        if (taken == 0) throw std::runtime_error("the quiet source's events are not taken");
        sent_ += taken;
      }
      if (!answer_.empty() && Now() - heard_ > FromSeconds(bench::kPatience)) {
        throw std::runtime_error("no answer for " + std::to_string(bench::kPatience) + " s");
      }
    }
    close(ticks);
  }

  void ReadAnswers() {
    std::array<char, 4096> text;
    const ssize_t got = recv(fd_, text.data(), text.size(), 0);
    if (got <= 0) throw std::runtime_error("the server closed the producer's connection");
    heard_ = Now();
    for (const char c : std::string_view(text.data(), static_cast<std::size_t>(got))) {
      if (c != answer_[answered_ % answer_.size()]) {
        throw std::runtime_error("the server gave another answer than " + answer_);
      }
      ++answered_;
      if (answered_ % answer_.size() == 0) {
        schedule_.Count(answers_, answered_ / answer_.size() - 1, heard_);
      }
    }
  }

  const int fd_;
  const Stream stream_;
  const std::string answer_;
  Schedule schedule_;
  std::uint64_t sent_ = 0;      // bytes
  std::uint64_t answered_ = 0;  // bytes
  std::uint64_t heard_ = 0;     // when the server last answered
  bench::Histogram answers_;    // from due
  std::exception_ptr error_;
  std::atomic<bool> last_ = false;
  std::atomic<bool> finished_ = false;  // all above may be read
  std::thread thread_;
};

class Load {
 public:
  explicit Load(const Options& options)
      : options_(options),
        quiet_events_(kQuietSize, bench::Netstring(kQuietSize)),
        noisy_events_(noisy_size(), bench::Netstring(noisy_size())) {
    const int error = clock_getcpuclockid(options_.server, &server_clock_);
    if (error != 0) throw std::system_error(error, std::system_category(), "--server-pid");
    bench::RaiseFileLimit();
    epoll_ = Checked(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
  }

  void Connect() {
    for (std::size_t i = 0; i < options_.subscribers; ++i) {
      subscribers_.push_back({.fd = bench::ConnectTcp(options_.port, i)});
    }
    if (options_.quiet == "message") {
      quiet_.emplace(Speak(0), QuietStream(), "");
    } else {
      const std::string listeners = std::to_string(options_.listeners);
      quiet_.emplace(Produce(), QuietStream(), evrelay::netstring::EncodeList({"ok", listeners}));
    }
    if (options_.noise.empty()) return;
    noisy_fd_ = options_.noise == "messages" ? Speak(1) : Produce();
    noise_.frame = noisy_events_.frame();
    noise_.text.assign(noisy_events_.At(0), bench::kRun / noisy_size() * noise_.frame);
    Watch(noisy_fd_, EPOLLOUT | EPOLLET, kNoisy);
  }

  void Run() {
    for (std::size_t i = 0; i < options_.listeners; ++i) Watch(subscribers_[i].fd, EPOLLIN, i);
    heard_ = Now();
    schedule_ = {.start = heard_,
                 .opens = heard_ + FromSeconds(options_.warmup),
                 .interval = FromSeconds(1 / options_.rate)};
    const std::uint64_t closes = schedule_.opens + FromSeconds(options_.seconds);
    quiet_->Begin(schedule_);
    while (Now() < schedule_.opens) Turn();
    window_begin_ = TakeSample();
    while (Now() < closes) Turn();
    window_end_ = TakeSample();
    quiet_->Finish();
    stopped_ = true;
    noise_due_ = (noise_sent_ + noise_.frame - 1) / noise_.frame * noise_.frame;
    while (!Complete()) Turn();
    CheckOthers();
  }

  void Report() const {
    const double seconds = ToSeconds(window_end_.time - window_begin_.time);
    std::printf(
        "{\"deliveries\": %llu, \"seconds\": %.6f, \"server_cpu_s\": %.6f, \"noise_rate\": %.1f",
        static_cast<unsigned long long>(window_end_.delivered - window_begin_.delivered), seconds,
        ToSeconds(window_end_.server_cpu - window_begin_.server_cpu),
        static_cast<double>(window_end_.noise - window_begin_.noise) /
            static_cast<double>(noise_.frame) / seconds);
    Print("latency_us", deliveries_);
    if (quiet_->answers().total() > 0) Print("answer_us", quiet_->answers());
    std::puts("}");
    std::fflush(stdout);
  }

 private:
  struct Subscriber {
    int fd;
    std::uint64_t quiet = 0;  // bytes received of that stream
    std::uint64_t noise = 0;
    std::size_t left = 0;   // bytes that are still to come of the frame that has begun
    bool is_quiet = false;  // whose frame that is
  };

  static constexpr std::uint64_t kForever = std::numeric_limits<std::uint64_t>::max();
  static constexpr std::uint64_t kNoisy = kForever;

  std::size_t noisy_size() const { return options_.noise == "messages" ? 64 : 1024; }

  Stream QuietStream() const {
    Stream stream;
    for (std::uint64_t number = 0; number < bench::kRun / kQuietSize; ++number) {
      const std::string_view frame(quiet_events_.At(number * quiet_events_.frame()),
                                   quiet_events_.frame());
      const std::string_view event = frame.substr(frame.size() - 1 - kQuietSize, kQuietSize);
      if (options_.quiet == "relay") {
        stream.text += evrelay::netstring::EncodeList({"relay", event});
      } else if (options_.quiet == "multicast") {
        stream.text += evrelay::netstring::EncodeList({"multicast", event, "busy"});
      } else {
        stream.text += frame;
      }
      stream.frame = stream.text.size() / (number + 1);
    }
    return stream;
  }

  int Produce() const {
    const int fd = bench::ConnectUnix(options_.producer);
    bench::SetOption(fd, SOL_SOCKET, SO_SNDBUF, bench::kSendBuffer);
    return fd;
  }

  // Another descriptor of a subscriber, to send messages.
  int Speak(std::size_t index) const {
    const int fd = subscribers_[index].fd;
    bench::SetOption(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    return Checked(fcntl(fd, F_DUPFD_CLOEXEC, 0), "fcntl");
  }

  void Watch(int fd, std::uint32_t what, std::uint64_t who) const {
    epoll_event wanted{.events = what, .data = {.u64 = who}};
    Checked(epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &wanted), "epoll_ctl");
  }

  bool Complete() const {
    if (!quiet_->finished() || noise_sent_ < noise_due_) return false;
    const std::uint64_t quiet = quiet_->events() * quiet_events_.frame();
    const std::uint64_t noise = options_.noise == "events" ? noise_sent_ : 0;
    for (std::size_t i = 0; i < options_.listeners; ++i) {
      if (subscribers_[i].quiet < quiet || subscribers_[i].noise < noise) return false;
    }
    return true;
  }

  void CheckOthers() const {
    for (std::size_t i = options_.listeners; i < subscribers_.size(); ++i) {
      char byte;
      if (recv(subscribers_[i].fd, &byte, 1, MSG_DONTWAIT) >= 0 || errno != EAGAIN) {
        throw std::runtime_error("subscriber " + std::to_string(i) +
                                 " was sent something, or closed");
      }
    }
  }

  // One write a turn, so that reading never waits for writing.
  void Turn() {
    if (!options_.noise.empty() && !stopped_) noise_due_ = NoiseDue();
    const bool more_to_send = writable_ && noise_sent_ < noise_due_;
    const int longest = options_.noise_rate > 0 ? 1 : 10;  // ms
    const int ready = epoll_wait(epoll_, ready_.data(), static_cast<int>(ready_.size()),
                                 more_to_send ? 0 : longest);
    for (int i = 0; i < ready; ++i) {
      const epoll_event& event = ready_[static_cast<std::size_t>(i)];
      if (event.data.u64 == kNoisy) {
        writable_ = true;
      } else {
        Receive(event.data.u64);
      }
    }
    if (writable_ && noise_sent_ < noise_due_) {
      const std::uint64_t sent =
          noise_.Send(noisy_fd_, noise_sent_, noise_due_ - noise_sent_, MSG_DONTWAIT);
      noise_sent_ += sent;
      writable_ = sent > 0;
    }
    if (Now() - heard_ > FromSeconds(bench::kPatience)) {
      throw std::runtime_error("nothing came for " + std::to_string(bench::kPatience) + " s");
    }
  }

  std::uint64_t NoiseDue() const {
    if (options_.noise_rate == 0) return kForever;
    const double events = ToSeconds(Now() - schedule_.start) * options_.noise_rate;
    return static_cast<std::uint64_t>(events) * noise_.frame;
  }

  void Receive(std::size_t index) {
    Subscriber& subscriber = subscribers_[index];
    const ssize_t got = recv(subscriber.fd, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) Fault(index, got == 0 ? "the server closed it" : std::strerror(errno));
    heard_ = Now();
    const auto size = static_cast<std::size_t>(got);
    for (std::size_t at = 0; at < size;) {
      if (subscriber.left == 0) {
        subscriber.is_quiet = buffer_[at] == *quiet_events_.At(0);
        subscriber.left = (subscriber.is_quiet ? quiet_events_ : noisy_events_).frame();
      }
      const std::size_t some = std::min(subscriber.left, size - at);
      const Pattern& pattern = subscriber.is_quiet ? quiet_events_ : noisy_events_;
      std::uint64_t& position = subscriber.is_quiet ? subscriber.quiet : subscriber.noise;
      if (!pattern.SameBytes(position, buffer_.data() + at, some)) {
        Fault(index, "bytes that were not sent, or not in this place");
      }
      position += some;
      at += some;
      subscriber.left -= some;
      if (subscriber.left == 0 && subscriber.is_quiet) {
        ++delivered_;
        schedule_.Count(deliveries_, position / pattern.frame() - 1, heard_);
      }
    }
  }

  Sample TakeSample() const {
    return {.time = Now(),
            .delivered = delivered_,
            .noise = noise_sent_,
            .server_cpu = Nanoseconds(server_clock_)};
  }

  [[noreturn]] void Fault(std::size_t index, const std::string& what) const {
    throw std::runtime_error("subscriber " + std::to_string(index) + ", after " +
                             std::to_string(subscribers_[index].quiet / quiet_events_.frame()) +
                             " quiet events: " + what);
  }

  static void Print(const char* name, const bench::Histogram& times) {
    std::printf(", \"%s\": {\"samples\": %llu, \"p50\": %.2f, \"p99\": %.2f, \"p99.9\": %.2f}",
                name, static_cast<unsigned long long>(times.total()), times.Quantile(0.5) / 1e3,
                times.Quantile(0.99) / 1e3, times.Quantile(0.999) / 1e3);
  }

  const Options& options_;
  const Pattern quiet_events_;
  const Pattern noisy_events_;
  clockid_t server_clock_ = 0;
  int epoll_ = -1;
  int noisy_fd_ = -1;
  std::vector<Subscriber> subscribers_;
  std::vector<epoll_event> ready_{1024};
  std::vector<char> buffer_ = std::vector<char>(bench::kRun);

  Schedule schedule_;
  std::optional<Quiet> quiet_;
  Stream noise_;
  bool writable_ = false;         // the noisy source's socket
  bool stopped_ = false;          // nothing more is due
  std::uint64_t noise_due_ = 0;   // bytes
  std::uint64_t noise_sent_ = 0;  // bytes
  std::uint64_t delivered_ = 0;   // quiet events
  std::uint64_t heard_ = 0;       // when the server last sent something
  Sample window_begin_;
  Sample window_end_;
  bench::Histogram deliveries_;  // from due
};

Options ParseOptions(int argc, char** argv) {
  Options options;
  CLI::App app;
  app.add_option("--port", options.port)->required();
  app.add_option("--producer", options.producer)->required();
  app.add_option("--subscribers", options.subscribers);
  app.add_option("--listeners", options.listeners);
  app.add_option("--quiet", options.quiet)->check(CLI::IsMember({"relay", "multicast", "message"}));
  app.add_option("--rate", options.rate);
  app.add_option("--noise", options.noise)->check(CLI::IsMember({"events", "messages"}));
  app.add_option("--noise-rate", options.noise_rate);
  app.add_option("--warmup", options.warmup);
  app.add_option("--seconds", options.seconds);
  app.add_option("--server-pid", options.server)->required();
  app.parse(argc, argv);
  if (options.listeners < 2 || options.listeners > options.subscribers) {
    throw CLI::ValidationError("--listeners", "2 to --subscribers");
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  return bench::Guarded("bench-fair", [&] {
    const Options options = ParseOptions(argc, argv);
    Load load(options);
    load.Connect();
    bench::AwaitStart();
    load.Run();
    load.Report();
    bench::AwaitEnd();
  });
}
