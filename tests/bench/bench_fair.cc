// The load of a fairness run, on one thread: a quiet source of 64 B events at a fixed rate, of
// which the latency is told, and beside it a noisy one, or many subscribers that are sent nothing.
//
// --subscribers N connect; the first --listeners of them are to receive the quiet events. They come
//   --quiet relay       as "relay" requests of a producer; everybody listens
//   --quiet multicast   as "multicast" requests to the tag "busy", which the server's script gives
//                       to the listeners
//   --quiet message     as messages of the first subscriber, which the server's script relays
// A noisy source sends as fast as it is taken, or --noise-rate a second:
//   --noise events      events of another producer, which all listeners receive too
//   --noise messages    64 B messages of the second subscriber, which the script does not relay
//
// Each source's stream is checked in each listener, byte by byte, and that the others receive
// nothing; a fault ends the run with exit code 1. It connects, prints "connected", waits for a line
// on standard input, runs, prints one JSON object and keeps its connections until standard input
// ends. Times count from when an event was due: until each delivery, and until its request was
// answered.

#include <fcntl.h>
#include <getopt.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <exception>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

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

// What is sent: one period of events, over and over, as far as it is due and taken.
struct Source {
  std::string text;
  std::size_t frame = 1;  // bytes of one event in `text`
  int fd = -1;
  bool writable = false;  // it has taken all of the last write
  std::uint64_t due = 0;  // bytes
  std::uint64_t sent = 0;
};

class Load {
 public:
  explicit Load(const Options& options)
      : options_(options),
        quiet_events_(kQuietSize, Pattern::Form::kEvents),
        noisy_events_(noisy_size(), Pattern::Form::kEvents) {
    const int error = clock_getcpuclockid(options_.server, &server_clock_);
    if (error != 0) throw std::system_error(error, std::system_category(), "--server-pid");
    if (options_.quiet != "message") {
      answer_ = evrelay::netstring::EncodeList({"ok", std::to_string(options_.listeners)});
    }
    bench::RaiseFileLimit();
    epoll_ = Checked(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
  }

  void Connect() {
    for (std::size_t i = 0; i < options_.subscribers; ++i) {
      subscribers_.push_back({.fd = bench::ConnectTcp(options_.port, i)});
    }
    quiet_.fd = answer_.empty() ? Speak(0) : Produce();
    for (std::uint64_t number = 0; number < bench::kRun / kQuietSize; ++number) {
      const char* frame = quiet_events_.At(number * quiet_events_.frame());
      quiet_.text += QuietRequest({frame, quiet_events_.frame()});
      quiet_.frame = quiet_.text.size() / (number + 1);
    }
    Watch(quiet_.fd, EPOLLIN | EPOLLOUT | EPOLLET, kQuiet);

    if (options_.noise.empty()) return;
    noisy_.fd = options_.noise == "messages" ? Speak(1) : Produce();
    noisy_.frame = noisy_events_.frame();
    noisy_.text.assign(noisy_events_.At(0), bench::kRun / noisy_size() * noisy_.frame);
    Watch(noisy_.fd, EPOLLOUT | EPOLLET, kNoisy);
  }

  void Run() {
    for (std::size_t i = 0; i < options_.listeners; ++i) Watch(subscribers_[i].fd, EPOLLIN, i);
    start_ = Now();
    heard_ = start_;
    opens_ = start_ + FromSeconds(options_.warmup);
    const std::uint64_t closes = opens_ + FromSeconds(options_.seconds);
    StartTicks();
    while (Now() < opens_) Turn();
    window_begin_ = TakeSample();
    while (Now() < closes) Turn();
    window_end_ = TakeSample();
    Stop();
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
            static_cast<double>(noisy_.frame) / seconds);
    Print("latency_us", deliveries_);
    if (!answer_.empty()) Print("answer_us", answers_);
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
  static constexpr std::uint64_t kQuiet = kForever;
  static constexpr std::uint64_t kNoisy = kForever - 1;
  static constexpr std::uint64_t kTicks = kForever - 2;

  std::size_t noisy_size() const { return options_.noise == "messages" ? 64 : 1024; }

  // What is sent for an event, which is given as a data frame.
  std::string QuietRequest(std::string_view frame) const {
    if (answer_.empty()) return std::string(frame);
    const std::string_view event = frame.substr(frame.size() - 1 - kQuietSize, kQuietSize);
    if (options_.quiet == "relay") return evrelay::netstring::EncodeList({"relay", event});
    return evrelay::netstring::EncodeList({"multicast", event, "busy"});
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

  void StartTicks() {
    interval_ = FromSeconds(1 / options_.rate);
    ticks_ = Checked(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC), "timerfd_create");
    const itimerspec every{.it_interval = bench::ToTimespec(interval_),
                           .it_value = bench::ToTimespec(start_ + interval_)};
    Checked(timerfd_settime(ticks_, TFD_TIMER_ABSTIME, &every, nullptr), "timerfd_settime");
    Watch(ticks_, EPOLLIN, kTicks);
  }

  std::uint64_t DueTime(std::uint64_t event) const { return start_ + (event + 1) * interval_; }

  // Adds what has passed since event number `event` was due.
  void Count(bench::Histogram& times, std::uint64_t event) const {
    if (DueTime(event) >= opens_) times.Add(heard_ - DueTime(event));
  }

  // What has been begun is finished, nothing more is due.
  void Stop() {
    stopped_ = true;
    close(ticks_);
    noisy_.due = (noisy_.sent + noisy_.frame - 1) / noisy_.frame * noisy_.frame;
  }

  bool Complete() const {
    if (quiet_.sent < quiet_.due || noisy_.sent < noisy_.due) return false;
    const std::uint64_t events = quiet_.sent / quiet_.frame;
    if (answered_ < events * answer_.size()) return false;
    const std::uint64_t noise = options_.noise == "events" ? noisy_.sent : 0;
    for (std::size_t i = 0; i < options_.listeners; ++i) {
      if (subscribers_[i].quiet < events * quiet_events_.frame()) return false;
      if (subscribers_[i].noise < noise) return false;
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

  // One write of each source a turn, so that reading never waits for writing.
  void Turn() {
    if (!options_.noise.empty() && !stopped_) noisy_.due = NoiseDue();
    const bool ready_to_send = CanSend(quiet_) || CanSend(noisy_);
    const int longest = options_.noise_rate > 0 ? 1 : 10;  // ms
    const int ready = epoll_wait(epoll_, ready_.data(), static_cast<int>(ready_.size()),
                                 ready_to_send ? 0 : longest);
    for (int i = 0; i < ready; ++i) {
      const epoll_event& event = ready_[static_cast<std::size_t>(i)];
      if (event.data.u64 == kQuiet) {
        quiet_.writable = true;
        if (!answer_.empty() && (event.events & EPOLLIN) != 0) ReadAnswers();
      } else if (event.data.u64 == kNoisy) {
        noisy_.writable = true;
      } else if (event.data.u64 == kTicks) {
        TakeTicks();
      } else {
        Receive(event.data.u64);
      }
    }
    Push(quiet_);
    Push(noisy_);
    if (Now() - heard_ > FromSeconds(bench::kPatience)) {
      throw std::runtime_error("nothing came for " + std::to_string(bench::kPatience) + " s");
    }
  }

  void TakeTicks() {
    std::uint64_t ticks = 0;
    if (read(ticks_, &ticks, sizeof ticks) == sizeof ticks) quiet_.due += ticks * quiet_.frame;
  }

  std::uint64_t NoiseDue() const {
    if (options_.noise_rate == 0) return kForever;
    const double events = ToSeconds(Now() - start_) * options_.noise_rate;
    return static_cast<std::uint64_t>(events) * noisy_.frame;
  }

  static bool CanSend(const Source& source) { return source.writable && source.sent < source.due; }

  static void Push(Source& source) {
    if (!CanSend(source)) return;
    const std::size_t at = source.sent % source.text.size();
    const std::size_t wanted =
        std::min<std::uint64_t>(source.due - source.sent, source.text.size() - at);
    const ssize_t sent =
        send(source.fd, source.text.data() + at, wanted, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) Checked(-1, "send");
    if (sent > 0) source.sent += static_cast<std::uint64_t>(sent);
    source.writable = sent == static_cast<ssize_t>(wanted);
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
        Count(deliveries_, position / pattern.frame() - 1);
      }
    }
  }

  void ReadAnswers() {
    for (;;) {
      std::array<char, 4096> text;
      const ssize_t got = recv(quiet_.fd, text.data(), text.size(), MSG_DONTWAIT);
      if (got < 0 && errno == EAGAIN) return;
      if (got <= 0) throw std::runtime_error("the server closed the producer's connection");
      heard_ = Now();
      for (const char c : std::string_view(text.data(), static_cast<std::size_t>(got))) {
        if (c != answer_[answered_ % answer_.size()]) {
          throw std::runtime_error("the server gave another answer than " + answer_);
        }
        ++answered_;
        if (answered_ % answer_.size() == 0) Count(answers_, answered_ / answer_.size() - 1);
      }
    }
  }

  Sample TakeSample() const {
    return {.time = Now(),
            .delivered = delivered_,
            .noise = noisy_.sent,
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
  std::string answer_;  // to each request; empty: there are no requests
  clockid_t server_clock_ = 0;
  int epoll_ = -1;
  int ticks_ = -1;
  Source quiet_;
  Source noisy_;
  bool stopped_ = false;
  std::vector<Subscriber> subscribers_;
  std::vector<epoll_event> ready_{1024};
  std::vector<char> buffer_ = std::vector<char>(bench::kRun);

  std::uint64_t start_ = 0;  // ns, as the next three
  std::uint64_t opens_ = 0;  // from when on it counts
  std::uint64_t interval_ = 0;
  std::uint64_t heard_ = 0;      // when the server last sent something
  std::uint64_t answered_ = 0;   // bytes
  std::uint64_t delivered_ = 0;  // quiet events
  Sample window_begin_;
  Sample window_end_;
  bench::Histogram deliveries_;  // from due
  bench::Histogram answers_;
};

Options ParseOptions(int argc, char** argv) {
  enum Key {
    kPort,
    kProducerSocket,
    kSubscribers,
    kListeners,
    kQuiet,
    kRate,
    kNoise,
    kNoiseRate,
    kWarmup,
    kSeconds,
    kServer
  };
  const option known[] = {
      {"port", required_argument, nullptr, kPort},
      {"producer", required_argument, nullptr, kProducerSocket},
      {"subscribers", required_argument, nullptr, kSubscribers},
      {"listeners", required_argument, nullptr, kListeners},
      {"quiet", required_argument, nullptr, kQuiet},
      {"rate", required_argument, nullptr, kRate},
      {"noise", required_argument, nullptr, kNoise},
      {"noise-rate", required_argument, nullptr, kNoiseRate},
      {"warmup", required_argument, nullptr, kWarmup},
      {"seconds", required_argument, nullptr, kSeconds},
      {"server-pid", required_argument, nullptr, kServer},
      {nullptr, 0, nullptr, 0},
  };
  Options options;
  for (int key; (key = getopt_long(argc, argv, "", known, nullptr)) != -1;) {
    switch (key) {
      case kPort:
        options.port = static_cast<std::uint16_t>(std::stoul(optarg));
        break;
      case kProducerSocket:
        options.producer = optarg;
        break;
      case kSubscribers:
        options.subscribers = std::stoul(optarg);
        break;
      case kListeners:
        options.listeners = std::stoul(optarg);
        break;
      case kQuiet:
        options.quiet = optarg;
        break;
      case kRate:
        options.rate = std::stod(optarg);
        break;
      case kNoise:
        options.noise = optarg;
        break;
      case kNoiseRate:
        options.noise_rate = std::stod(optarg);
        break;
      case kWarmup:
        options.warmup = std::stod(optarg);
        break;
      case kSeconds:
        options.seconds = std::stod(optarg);
        break;
      case kServer:
        options.server = std::stoi(optarg);
        break;
      default:
        throw std::invalid_argument("unknown option");
    }
  }
  if (optind != argc || options.port == 0 || options.producer.empty() || options.server == 0) {
    throw std::invalid_argument("--port, --producer and --server-pid are needed");
  }
  if (options.quiet != "relay" && options.quiet != "multicast" && options.quiet != "message") {
    throw std::invalid_argument("--quiet: relay, multicast or message");
  }
  if (!options.noise.empty() && options.noise != "events" && options.noise != "messages") {
    throw std::invalid_argument("--noise: events or messages");
  }
  if (options.listeners < 2 || options.listeners > options.subscribers) {
    throw std::invalid_argument("--listeners: 2 to --subscribers");
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const Options options = ParseOptions(argc, argv);
    Load load(options);
    load.Connect();
    bench::AwaitStart();
    load.Run();
    load.Report();
    bench::AwaitEnd();
  } catch (const std::invalid_argument& error) {
    std::fprintf(stderr, "bench-fair: %s\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench-fair: %s\n", error.what());
    return 1;
  }
  return 0;
}
