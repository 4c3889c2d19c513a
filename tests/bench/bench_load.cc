// The load of a benchmark run: N subscribers and, unless the server makes the events itself, one
// producer, on one thread, so that it leaves the other core to the server. Every subscriber's
// stream is checked against the one stream that was sent; a fault ends the run with exit code 1.
//
// It connects, prints "connected", waits for a line on standard input, runs, prints one JSON object
// and keeps its connections until standard input ends. Three kinds of run:
//   as fast as it goes   the producer writes whenever it can (--window: at most so many bytes ahead
//                        of the slowest subscriber). Deliveries are counted between --warmup and
//                        --warmup + --seconds; then the producer stops and everything sent must
//                        arrive.
//   --rate R             R events a second, each sent when it is due whatever became of those
//                        before. The latency of a delivery counts from the time its event was due.
//   --hold               nothing is sent, nothing is printed.

#include <fcntl.h>
#include <getopt.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
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

struct Options {
  std::uint16_t port = 0;  // the server's subscriber port
  std::string producer;    // its producer socket; empty: it makes the events itself
  std::size_t subscribers = 1;
  std::size_t stalled = 0;  // of these, how many never read
  std::size_t size = 64;    // bytes of an event
  double warmup = 0.3;      // seconds
  double seconds = 2;
  double rate = 0;           // events a second; 0: as fast as it goes
  std::uint64_t window = 0;  // bytes; 0: no bound
  bool requests = false;     // each event as a "relay" request
  bool messages = false;     // each event as a message of the first subscriber, for a hook to relay
  std::size_t talk = 0;      // messages the first subscriber sends when the run begins
  bool check_all = false;    // compare every byte, not just each frame's ends
  bool hold = false;
  pid_t server = 0;  // whose processor time is told
};

constexpr std::uint64_t kForever = std::numeric_limits<std::uint64_t>::max();

// What the run has come to at one moment.
struct Sample {
  std::uint64_t time = 0;        // ns
  std::uint64_t received = 0;    // bytes, all subscribers
  std::uint64_t server_cpu = 0;  // ns
  std::uint64_t own_cpu = 0;     // ns
};

class Load {
 public:
  explicit Load(const Options& options)
      : options_(options),
        events_(options.size, Pattern::Form::kEvents),
        sent_form_(options.size,
                   options.requests ? Pattern::Form::kRequests : Pattern::Form::kEvents) {
    if (options_.server != 0) {
      const int error = clock_getcpuclockid(options_.server, &server_clock_);
      if (error != 0) throw std::system_error(error, std::system_category(), "--server-pid");
    }
    if (options_.requests) {
      const std::string answer =
          evrelay::netstring::EncodeList({"ok", std::to_string(options_.subscribers)});
      answer_size_ = answer.size();
      while (answers_.size() < bench::kRun + answer_size_) answers_ += answer;
    }
    epoll_ = Checked(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
  }

  void Connect() {
    bench::RaiseFileLimit();
    for (std::size_t i = 0; i < options_.subscribers; ++i) {
      subscribers_.push_back({bench::ConnectTcp(options_.port), 0});
    }
    if (options_.messages) {
      const int first = subscribers_.front().fd;
      bench::SetOption(first, IPPROTO_TCP, TCP_NODELAY, 1);
      producer_ = Checked(fcntl(first, F_DUPFD_CLOEXEC, 0), "fcntl");
      Watch(producer_, EPOLLOUT | EPOLLET, kProducer);
    } else if (!options_.producer.empty()) {
      producer_ = bench::ConnectUnix(options_.producer);
      bench::SetOption(producer_, SOL_SOCKET, SO_SNDBUF, bench::kSendBuffer);
      Watch(producer_, EPOLLIN | EPOLLOUT | EPOLLET, kProducer);
    }
  }

  void Run() {
    for (std::size_t i = 0; i < reading(); ++i) Watch(subscribers_[i].fd, EPOLLIN, i);
    Talk();
    start_ = Now();
    heard_ = start_;
    opens_ = start_ + FromSeconds(options_.warmup);
    closes_ = opens_ + FromSeconds(options_.seconds);
    if (options_.rate > 0) {
      StartTicks();
    } else if (producer_ >= 0) {
      due_ = kForever;
    }
    while (!Finished()) {
      Turn();
      Push();
    }
  }

  void Report() const {
    const double events = static_cast<double>(window_end_.received - window_begin_.received) /
                          static_cast<double>(events_.frame());
    const std::uint64_t time = window_end_.time - window_begin_.time;
    std::printf(
        "{\"deliveries\": %.0f, \"seconds\": %.6f, \"rate\": %.1f, \"server_cpu_s\": %.6f, "
        "\"load_cpu_s\": %.6f, \"total_received\": %llu",
        events, ToSeconds(time), events / ToSeconds(time),
        ToSeconds(window_end_.server_cpu - window_begin_.server_cpu),
        ToSeconds(window_end_.own_cpu - window_begin_.own_cpu),
        static_cast<unsigned long long>(received_ / events_.frame()));
    if (options_.rate > 0) {
      std::printf(
          ", \"latency_us\": {\"samples\": %llu, \"p50\": %.2f, \"p99\": %.2f, \"p99.9\": %.2f}",
          static_cast<unsigned long long>(latency_.total()), latency_.Quantile(0.5) / 1e3,
          latency_.Quantile(0.99) / 1e3, latency_.Quantile(0.999) / 1e3);
    }
    std::puts("}");
    std::fflush(stdout);
  }

 private:
  struct Subscriber {
    int fd;
    std::uint64_t position;  // bytes received
  };

  static constexpr std::uint64_t kProducer = kForever;
  static constexpr std::uint64_t kTicks = kForever - 1;

  // The stalled subscribers are the last ones.
  std::size_t reading() const { return subscribers_.size() - options_.stalled; }

  void Watch(int fd, std::uint32_t what, std::uint64_t who) {
    epoll_event wanted{.events = what, .data = {.u64 = who}};
    Checked(epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &wanted), "epoll_ctl");
  }

  void Talk() const {
    std::string text;
    for (std::size_t i = 0; i < options_.talk; ++i) evrelay::netstring::Append(text, "hello");
    if (text.empty()) return;
    Checked(static_cast<int>(send(subscribers_.front().fd, text.data(), text.size(), MSG_NOSIGNAL)),
            "send messages");
  }

  void StartTicks() {
    interval_ = FromSeconds(1 / options_.rate);
    ticks_ = Checked(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC), "timerfd_create");
    const auto ToTimespec = [](std::uint64_t time) {
      return timespec{.tv_sec = static_cast<time_t>(time / 1'000'000'000),
                      .tv_nsec = static_cast<long>(time % 1'000'000'000)};
    };
    const itimerspec every{.it_interval = ToTimespec(interval_),
                           .it_value = ToTimespec(start_ + interval_)};
    Checked(timerfd_settime(ticks_, TFD_TIMER_ABSTIME, &every, nullptr), "timerfd_settime");
    Watch(ticks_, EPOLLIN, kTicks);
  }

  std::uint64_t DueTime(std::uint64_t event) const { return start_ + (event + 1) * interval_; }

  // Moves through the phases of the run: warm-up, window, what is still to come.
  bool Finished() {
    const std::uint64_t now = Now();
    if (window_begin_.time == 0) {
      if (now >= opens_) window_begin_ = TakeSample(now);
      return false;
    }
    if (window_end_.time == 0) {
      if (now < closes_) {
        if (now - heard_ > FromSeconds(bench::kPatience)) Stuck();
        return false;
      }
      window_end_ = TakeSample(now);
      StopProducer();
    }
    if (producer_ < 0) return true;
    if (sent_ == due_ && received_ == sent_ / sent_form_.frame() * events_.frame() * reading() &&
        answered_ == (options_.requests ? sent_ / sent_form_.frame() * answer_size_ : 0)) {
      return true;
    }
    if (now - heard_ > FromSeconds(bench::kPatience)) Stuck();
    return false;
  }

  Sample TakeSample(std::uint64_t now) const {
    return {.time = now,
            .received = received_,
            .server_cpu = options_.server == 0 ? 0 : Nanoseconds(server_clock_),
            .own_cpu = Nanoseconds(CLOCK_PROCESS_CPUTIME_ID)};
  }

  // What has been begun is finished, nothing more is due.
  void StopProducer() {
    if (producer_ < 0) return;
    due_ = (sent_ + sent_form_.frame() - 1) / sent_form_.frame() * sent_form_.frame();
    if (ticks_ >= 0) {
      close(ticks_);
      ticks_ = -1;
    }
  }

  [[noreturn]] void Stuck() const {
    const std::uint64_t sent = sent_ / sent_form_.frame();
    throw std::runtime_error("nothing came for " + std::to_string(bench::kPatience) + " s; of " +
                             std::to_string(sent) + " events sent to " + std::to_string(reading()) +
                             " subscribers " + std::to_string(received_ / events_.frame()) +
                             " deliveries arrived");
  }

  void Turn() {
    const bool more_to_send = writable_ && sent_ < Allowed();
    const int ready =
        epoll_wait(epoll_, ready_.data(), static_cast<int>(ready_.size()), more_to_send ? 0 : 10);
    for (int i = 0; i < ready; ++i) {
      const epoll_event& event = ready_[static_cast<std::size_t>(i)];
      if (event.data.u64 == kProducer) {
        writable_ = true;
        if ((event.events & EPOLLIN) != 0) ReadAnswers();
      } else if (event.data.u64 == kTicks) {
        TakeTicks();
      } else {
        Receive(event.data.u64);
      }
    }
  }

  void TakeTicks() {
    std::uint64_t ticks = 0;
    if (read(ticks_, &ticks, sizeof ticks) == sizeof ticks) due_ += ticks * sent_form_.frame();
  }

  // How far the producer may be now.
  std::uint64_t Allowed() const {
    if (options_.window == 0) return due_;
    std::uint64_t slowest = kForever;
    for (std::size_t i = 0; i < reading(); ++i) {
      slowest = std::min(slowest, subscribers_[i].position);
    }
    return std::min(due_, slowest + options_.window);
  }

  // One write a turn, so that reading never waits for writing.
  void Push() {
    if (!writable_) return;
    const std::uint64_t allowed = Allowed();
    if (sent_ >= allowed) return;
    const std::size_t wanted = std::min<std::uint64_t>(allowed - sent_, bench::kRun);
    const ssize_t sent = send(producer_, sent_form_.At(sent_), wanted, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) Checked(-1, "send an event");
    if (sent > 0) sent_ += static_cast<std::uint64_t>(sent);
    writable_ = sent == static_cast<ssize_t>(wanted);
  }

  void Receive(std::size_t index) {
    Subscriber& subscriber = subscribers_[index];
    const ssize_t got = recv(subscriber.fd, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) Fault(index, got == 0 ? "the server closed it" : std::strerror(errno));
    const auto size = static_cast<std::size_t>(got);
    const bool right = options_.check_all || ++reads_ % 16 == 0
                           ? events_.SameBytes(subscriber.position, buffer_.data(), size)
                           : events_.SameFrames(subscriber.position, buffer_.data(), size);
    if (!right) Fault(index, "bytes that were not sent, or not in this place");
    const std::uint64_t before = subscriber.position;
    subscriber.position += size;
    received_ += size;
    heard_ = Now();
    if (options_.rate > 0) TakeLatency(before, subscriber.position, heard_);
  }

  void TakeLatency(std::uint64_t before, std::uint64_t after, std::uint64_t now) {
    for (std::uint64_t event = before / events_.frame(); event < after / events_.frame(); ++event) {
      if (DueTime(event) >= opens_) latency_.Add(now - DueTime(event));
    }
  }

  void ReadAnswers() {
    for (;;) {
      const ssize_t got = recv(producer_, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
      if (got < 0 && errno == EAGAIN) return;
      const auto size = static_cast<std::size_t>(got);
      if (got <= 0 || !options_.requests ||
          std::memcmp(buffer_.data(), answers_.data() + answered_ % answer_size_, size) != 0) {
        throw std::runtime_error(
            got == 0  ? "the server closed the producer's connection"
            : got < 0 ? std::strerror(errno)
                      : "the server gave another answer than expected: " +
                            std::string(buffer_.data(), std::min<std::size_t>(size, 80)));
      }
      answered_ += size;
      heard_ = Now();
    }
  }

  [[noreturn]] void Fault(std::size_t index, const std::string& what) const {
    throw std::runtime_error("subscriber " + std::to_string(index) + ", after " +
                             std::to_string(subscribers_[index].position / events_.frame()) +
                             " events: " + what);
  }

  const Options& options_;
  const Pattern events_;
  const Pattern sent_form_;
  clockid_t server_clock_ = 0;
  int epoll_ = -1;
  int ticks_ = -1;
  int producer_ = -1;      // where the events go
  bool writable_ = false;  // the producer's socket has taken all of the last write
  std::vector<Subscriber> subscribers_;
  std::vector<epoll_event> ready_{1024};
  std::vector<char> buffer_ = std::vector<char>(bench::kRun);
  std::string answers_;  // what the producer's socket must answer, repeated
  std::size_t answer_size_ = 0;

  std::uint64_t start_ = 0;  // ns, as the next four
  std::uint64_t opens_ = 0;  // begin and end of the window that counts
  std::uint64_t closes_ = 0;
  std::uint64_t interval_ = 0;
  std::uint64_t heard_ = 0;  // when the server last sent something
  std::uint64_t due_ = 0;    // bytes the producer should have sent by now
  std::uint64_t sent_ = 0;
  std::uint64_t answered_ = 0;
  std::uint64_t received_ = 0;
  std::uint64_t reads_ = 0;
  Sample window_begin_;
  Sample window_end_;
  bench::Histogram latency_;
};

Options ParseOptions(int argc, char** argv) {
  enum Key {
    kPort,
    kProducerSocket,
    kSubscribers,
    kStalled,
    kSize,
    kWarmup,
    kSeconds,
    kRate,
    kWindow,
    kRequests,
    kMessages,
    kTalk,
    kCheckAll,
    kHold,
    kServer
  };
  const option known[] = {
      {"port", required_argument, nullptr, kPort},
      {"producer", required_argument, nullptr, kProducerSocket},
      {"subscribers", required_argument, nullptr, kSubscribers},
      {"stalled", required_argument, nullptr, kStalled},
      {"size", required_argument, nullptr, kSize},
      {"warmup", required_argument, nullptr, kWarmup},
      {"seconds", required_argument, nullptr, kSeconds},
      {"rate", required_argument, nullptr, kRate},
      {"window", required_argument, nullptr, kWindow},
      {"requests", no_argument, nullptr, kRequests},
      {"messages", no_argument, nullptr, kMessages},
      {"talk", required_argument, nullptr, kTalk},
      {"check-all", no_argument, nullptr, kCheckAll},
      {"hold", no_argument, nullptr, kHold},
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
      case kStalled:
        options.stalled = std::stoul(optarg);
        break;
      case kSize:
        options.size = std::stoul(optarg);
        break;
      case kWarmup:
        options.warmup = std::stod(optarg);
        break;
      case kSeconds:
        options.seconds = std::stod(optarg);
        break;
      case kRate:
        options.rate = std::stod(optarg);
        break;
      case kWindow:
        options.window = std::stoull(optarg);
        break;
      case kRequests:
        options.requests = true;
        break;
      case kMessages:
        options.messages = true;
        break;
      case kTalk:
        options.talk = std::stoul(optarg);
        break;
      case kCheckAll:
        options.check_all = true;
        break;
      case kHold:
        options.hold = true;
        break;
      case kServer:
        options.server = std::stoi(optarg);
        break;
      default:
        throw std::invalid_argument("unknown option");
    }
  }
  if (optind != argc || options.port == 0) throw std::invalid_argument("--port is needed");
  if (options.size < Pattern::kSmallest || options.size > Pattern::kLargest) {
    throw std::invalid_argument("--size: " + std::to_string(Pattern::kSmallest) + " to " +
                                std::to_string(Pattern::kLargest));
  }
  if (options.stalled >= options.subscribers) {
    throw std::invalid_argument("--stalled: less than --subscribers");
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
    if (!options.hold) {
      load.Run();
      load.Report();
    }
    bench::AwaitEnd();
  } catch (const std::invalid_argument& error) {
    std::fprintf(stderr, "bench-load: %s\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench-load: %s\n", error.what());
    return 1;
  }
  return 0;
}
