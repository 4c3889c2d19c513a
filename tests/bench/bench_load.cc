// The load of a benchmark run: N subscribers and, unless the server makes the events itself, one
// producer, on one thread, so that it leaves the other core to the server. Every subscriber's
// stream is checked against the one stream that was sent; a fault ends the run with exit code 1.
// It speaks the --dialect of the server.
//
// It connects, prints "connected", waits for a line on standard input, runs, prints one JSON object
// and keeps its connections until standard input ends. Four kinds of run:
//   as fast as it goes   the producer writes whenever it can (--window: at most so many bytes ahead
//                        of the slowest subscriber). Deliveries are counted between --warmup and
//                        --warmup + --seconds; then the producer stops and everything sent must
//                        arrive.
//   --rate R             R events a second, each sent when it is due whatever became of those
//                        before. The latency of a delivery counts from the time its event was due.
//   --hold               nothing is sent, nothing is printed.
//   --storm              says "ready" and waits for the line before it connects, as fast as it can,
//                        then tells when it began and when the last answer to a greeting was there
//                        (CLOCK_MONOTONIC, seconds). Nothing is sent.

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "dialect.h"
#include "evrelay/netstring.h"
#include "histogram.h"
#include "pattern.h"
#include "run.h"
#include "sockets.h"

namespace {

using bench::Checked;
using bench::Dialect;
using bench::FromSeconds;
using bench::Greeting;
using bench::Nanoseconds;
using bench::Now;
using bench::Pattern;
using bench::ToSeconds;

struct Options {
  std::uint16_t port = 0;  // the server's subscriber port
  std::string producer;    // its producer socket or port; empty: it makes the events itself
  std::string dialect = "evrelay";
  std::size_t subscribers = 1;
  std::size_t stalled = 0;    // of these, how many never read
  bool read_stalled = false;  // but when all is over
  std::size_t size = 64;      // bytes of an event
  double warmup = 0.3;        // seconds
  double seconds = 2;
  double rate = 0;           // events a second; 0: as fast as it goes
  std::uint64_t window = 0;  // bytes; 0: no bound
  bool messages = false;     // each event as a message of the first subscriber, for a hook to relay
  std::size_t talk = 0;      // messages the first subscriber sends when the run begins
  bool check_all = false;    // compare every byte, not just each frame's ends
  bool hold = false;
  bool storm = false;
  std::vector<pid_t> servers;  // whose processor time is told
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
        dialect_(bench::FindDialect(options.dialect, options.size, options.subscribers)),
        events_(options.size, dialect_.received),
        sent_form_(options.size, dialect_.sent) {
    for (const pid_t server : options_.servers) {
      clockid_t clock = 0;
      const int error = clock_getcpuclockid(server, &clock);
      if (error != 0) throw std::system_error(error, std::system_category(), "--server-pid");
      server_clocks_.push_back(clock);
    }
    if (!dialect_.reply.empty()) {
      while (answers_.size() < bench::kRun + dialect_.reply.size()) answers_ += dialect_.reply;
    }
    epoll_ = Checked(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
  }

  void Connect() {
    ConnectSubscribers();
    ConnectProducer();
    // A short run is over before the server asks.
    if (!dialect_.question.empty() && options_.warmup + options_.seconds > Dialect::kQuiet / 2) {
      for (const Subscriber& subscriber : subscribers_) Answer(subscriber.fd);
      if (producer_ >= 0) Answer(producer_);
    }
  }

  void Storm() {
    const std::uint64_t start = Now();
    ConnectSubscribers();
    std::printf("{\"begin\": %.6f, \"end\": %.6f}\n", ToSeconds(start), ToSeconds(Now()));
    std::fflush(stdout);
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
    if (options_.read_stalled) ReadStalled();
  }

  void Report() const {
    const double events = static_cast<double>(window_end_.received - window_begin_.received) /
                          static_cast<double>(events_.frame());
    const std::uint64_t time = window_end_.time - window_begin_.time;
    std::printf(
        "{\"deliveries\": %.0f, \"seconds\": %.6f, \"rate\": %.1f, \"server_cpu_s\": %.6f, "
        "\"load_cpu_s\": %.6f, \"total_received\": %llu, \"sent\": %llu",
        events, ToSeconds(time), events / ToSeconds(time),
        ToSeconds(window_end_.server_cpu - window_begin_.server_cpu),
        ToSeconds(window_end_.own_cpu - window_begin_.own_cpu),
        static_cast<unsigned long long>(received_ / events_.frame()),
        static_cast<unsigned long long>(sent_ / sent_form_.frame()));
    if (options_.read_stalled) {
      std::printf(", \"stalled_received\": %llu, \"stalled_closed\": %zu",
                  static_cast<unsigned long long>(stalled_received_ / events_.frame()),
                  stalled_closed_);
    }
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

  // As many as may be without an answer at once.
  void ConnectSubscribers() {
    bench::RaiseFileLimit();
    const Greeting& greeting = dialect_.subscriber;
    std::size_t answered = 0;
    while (subscribers_.size() < options_.subscribers) {
      if (subscribers_.size() - answered == dialect_.at_once) {
        Hear(subscribers_[answered++].fd, greeting.hear);
      }
      const std::size_t number = subscribers_.size();
      subscribers_.push_back({bench::ConnectTcp(options_.port, number), 0});
      Say(subscribers_.back().fd, greeting.say);
    }
    for (; answered < subscribers_.size(); ++answered) {
      Hear(subscribers_[answered].fd, greeting.hear);
    }
  }

  void ConnectProducer() {
    if (options_.messages) {
      producer_ = Checked(fcntl(subscribers_.front().fd, F_DUPFD_CLOEXEC, 0), "fcntl");
      bench::SetOption(producer_, IPPROTO_TCP, TCP_NODELAY, 1);
      Watch(producer_, EPOLLOUT | EPOLLET, kProducer);
      return;
    }
    if (options_.producer.empty()) return;
    if (options_.producer.front() == '/') {
      producer_ = bench::ConnectUnix(options_.producer);
    } else {
      producer_ = bench::ConnectTcp(static_cast<std::uint16_t>(std::stoul(options_.producer)));
      bench::SetOption(producer_, IPPROTO_TCP, TCP_NODELAY, 1);
    }
    bench::SetOption(producer_, SOL_SOCKET, SO_SNDBUF, bench::kSendBuffer);
    Say(producer_, dialect_.producer.say);
    Hear(producer_, dialect_.producer.hear);
    Watch(producer_, EPOLLIN | EPOLLOUT | EPOLLET, kProducer);
  }

  void Answer(int fd) const {
    Hear(fd, dialect_.question);
    Say(fd, dialect_.answer);
  }

  static void Say(int fd, const std::string& text) {
    if (text.empty()) return;
    Checked(static_cast<int>(send(fd, text.data(), text.size(), MSG_NOSIGNAL)), "send a greeting");
  }

  // Waits for an answer that ends so. Nothing comes after it before events are sent.
  static void Hear(int fd, const std::string& end) {
    if (end.empty()) return;
    const timeval patience{.tv_sec = bench::kPatience, .tv_usec = 0};
    Checked(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), "setsockopt");
    std::string heard;
    while (!heard.ends_with(end)) {
      std::array<char, 4096> buffer;
      const ssize_t got = recv(fd, buffer.data(), buffer.size(), 0);
      if (got <= 0) {
        throw std::runtime_error("heard \"" + heard + "\" where something else was to come: " +
                                 (got == 0 ? "closed" : std::strerror(errno)));
      }
      heard.append(buffer.data(), static_cast<std::size_t>(got));
    }
  }

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
    const itimerspec every{.it_interval = bench::ToTimespec(interval_),
                           .it_value = bench::ToTimespec(start_ + interval_)};
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
        answered_ == sent_ / sent_form_.frame() * dialect_.reply.size()) {
      return true;
    }
    if (now - heard_ > FromSeconds(bench::kPatience)) Stuck();
    return false;
  }

  Sample TakeSample(std::uint64_t now) const {
    return {.time = now,
            .received = received_,
            .server_cpu = ServerTime(),
            .own_cpu = Nanoseconds(CLOCK_PROCESS_CPUTIME_ID)};
  }

  std::uint64_t ServerTime() const {
    std::uint64_t time = 0;
    for (const clockid_t clock : server_clocks_) time += Nanoseconds(clock);
    return time;
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
    throw std::runtime_error("nothing more comes; of " + std::to_string(sent) + " events sent to " +
                             std::to_string(reading()) + " subscribers " +
                             std::to_string(received_ / events_.frame()) + " deliveries arrived");
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
  std::uint64_t Allowed() {
    if (options_.window == 0) return due_;
    return std::min(due_, (Slowest() + options_.window) / events_.frame() * sent_form_.frame());
  }

  // What the subscriber that is last of those who read has received.
  std::uint64_t Slowest() {
    if (subscribers_[slowest_].position != slowest_position_) {
      for (std::size_t i = 0; i < reading(); ++i) {
        if (subscribers_[i].position < subscribers_[slowest_].position) slowest_ = i;
      }
      slowest_position_ = subscribers_[slowest_].position;
    }
    return slowest_position_;
  }

  // One write a turn, so that reading never waits for writing.
  void Push() {
    if (!writable_) return;
    const std::uint64_t allowed = Allowed();
    if (sent_ >= allowed) return;
    std::size_t wanted = std::min<std::uint64_t>(allowed - sent_, bench::kRun);
    if (dialect_.whole_sends != 0) {
      const std::uint64_t end = sent_ + std::min<std::uint64_t>(wanted, dialect_.whole_sends);
      wanted = end / sent_form_.frame() * sent_form_.frame() - sent_;
    }
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
    if (!right) FaultyBytes(index, size);
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
      const std::size_t reply = dialect_.reply.size();
      if (got <= 0 || reply == 0 ||
          std::memcmp(buffer_.data(), answers_.data() + answered_ % reply, size) != 0) {
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

  // How much the server still has for those who never read.
  void ReadStalled() {
    const timeval silence{.tv_sec = 0, .tv_usec = 300'000};
    for (std::size_t i = reading(); i < subscribers_.size(); ++i) {
      const int fd = subscribers_[i].fd;
      Checked(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof silence), "setsockopt");
      ssize_t got = 0;
      while ((got = recv(fd, buffer_.data(), buffer_.size(), 0)) > 0) {
        stalled_received_ += static_cast<std::uint64_t>(got);
      }
      if (got == 0 || errno != EAGAIN) ++stalled_closed_;
    }
  }

  // Tells the first bytes that are wrong.
  [[noreturn]] void FaultyBytes(std::size_t index, std::size_t size) const {
    const char* expected = events_.At(subscribers_[index].position);
    const auto wrong = std::mismatch(buffer_.begin(), buffer_.begin() + static_cast<int>(size),
                                     expected, expected + size)
                           .first;
    std::string bytes(wrong, std::min(wrong + 32, buffer_.begin() + static_cast<int>(size)));
    for (char& byte : bytes) {
      if (byte < ' ' || byte > '~') byte = '.';
    }
    Fault(index, "bytes that were not sent, or not in this place: " + bytes);
  }

  [[noreturn]] void Fault(std::size_t index, const std::string& what) const {
    throw std::runtime_error("subscriber " + std::to_string(index) + ", after " +
                             std::to_string(subscribers_[index].position / events_.frame()) +
                             " events: " + what);
  }

  const Options& options_;
  const Dialect dialect_;
  const Pattern events_;
  const Pattern sent_form_;
  std::vector<clockid_t> server_clocks_;
  int epoll_ = -1;
  int ticks_ = -1;
  int producer_ = -1;      // where the events go
  bool writable_ = false;  // the producer's socket has taken all of the last write
  std::vector<Subscriber> subscribers_;
  std::size_t slowest_ = 0;  // which of them was last, and where it stood then
  std::uint64_t slowest_position_ = 0;
  std::vector<epoll_event> ready_{1024};
  std::vector<char> buffer_ = std::vector<char>(bench::kRun);
  std::string answers_;  // what the producer's socket must answer, repeated

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
  std::uint64_t stalled_received_ = 0;  // bytes
  std::size_t stalled_closed_ = 0;      // how many of the stalled the server has given up
  Sample window_begin_;
  Sample window_end_;
  bench::Histogram latency_;
};

Options ParseOptions(int argc, char** argv) {
  Options options;
  CLI::App app;
  app.add_option("--port", options.port)->required();
  app.add_option("--producer", options.producer);
  app.add_option("--dialect", options.dialect);
  app.add_option("--subscribers", options.subscribers);
  app.add_option("--stalled", options.stalled);
  app.add_flag("--read-stalled", options.read_stalled);
  app.add_option("--size", options.size)->check(CLI::Range(Pattern::kSmallest, Pattern::kLargest));
  app.add_option("--warmup", options.warmup);
  app.add_option("--seconds", options.seconds);
  app.add_option("--rate", options.rate);
  app.add_option("--window", options.window);
  app.add_flag("--messages", options.messages);
  app.add_option("--talk", options.talk);
  app.add_flag("--check-all", options.check_all);
  app.add_flag("--hold", options.hold);
  app.add_flag("--storm", options.storm);
  app.add_option("--server-pid", options.servers);
  app.parse(argc, argv);
  if (options.stalled >= options.subscribers) {
    throw CLI::ValidationError("--stalled", "less than --subscribers");
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  return bench::Guarded("bench-load", [&] {
    const Options options = ParseOptions(argc, argv);
    Load load(options);
    if (options.storm) {
      std::puts("ready");
      std::fflush(stdout);
      bench::AwaitLine();
      load.Storm();
    } else {
      load.Connect();
      bench::AwaitStart();
    }
    if (!options.hold && !options.storm) {
      load.Run();
      load.Report();
    }
    bench::AwaitEnd();
  });
}
