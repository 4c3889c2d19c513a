// The messages of a benchmark run: N subscribers that send them as fast as they are taken, and one
// more that listens, on one thread, so that it leaves the other core to the server. The script of
// the server counts the messages; it relays its count when it has come to the number it was told,
// and whenever a connection has been closed.
//
// bench-messages PORT SUBSCRIBERS SIZE: connects, prints "connected", waits for a line on standard
// input and sends until the first count arrives. Then each subscriber finishes its message and ends
// its side; the last count tells what became of all that was sent. Prints one JSON object and keeps
// its connections until standard input ends.
//
// Nobody waits for a last message, so a server that loses some is only as much slower as it lost.
// To lose few, each send ends with a whole message: evapi drops what stands in its buffer when a
// read ends inside a header.

#include <sys/epoll.h>
#include <sys/time.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "evrelay/netstring.h"
#include "pattern.h"
#include "run.h"
#include "sockets.h"

namespace {

using bench::Checked;
using bench::Pattern;

// What is sent at once: what evapi can read at once.
constexpr std::size_t kSend = 32 * 1024 - 1;

class Load {
 public:
  Load(std::uint16_t port, std::size_t subscribers, std::size_t size)
      : messages_(size, bench::Netstring(size)), listener_(bench::ConnectTcp(port)) {
    epoll_ = Checked(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    const timeval patience{.tv_sec = bench::kPatience, .tv_usec = 0};
    Checked(setsockopt(listener_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience),
            "setsockopt");
    Watch(listener_, EPOLLIN, kListener);
    while (subscribers_.size() < subscribers) {
      subscribers_.push_back({bench::ConnectTcp(port), 0});
    }
  }

  void Run() {
    for (std::size_t i = 0; i < subscribers_.size(); ++i) Watch(subscribers_[i].fd, EPOLLOUT, i);
    const std::uint64_t start = bench::Now();
    while (counts_.empty()) Turn();
    seconds_ = bench::ToSeconds(bench::Now() - start);
    for (const Subscriber& subscriber : subscribers_) Finish(subscriber);
    while (counts_.size() < 1 + subscribers_.size()) Listen();
  }

  void Report() const {
    std::uint64_t sent = 0;
    for (const Subscriber& subscriber : subscribers_) {
      sent += (subscriber.position + messages_.frame() - 1) / messages_.frame();
    }
    std::printf(
        "{\"messages\": %llu, \"seconds\": %.6f, \"rate\": %.1f, \"sent\": %llu, "
        "\"counted\": %llu}\n",
        counts_.front(), seconds_, static_cast<double>(counts_.front()) / seconds_,
        static_cast<unsigned long long>(sent), counts_.back());
    std::fflush(stdout);
  }

 private:
  struct Subscriber {
    int fd;
    std::uint64_t position;  // bytes sent
  };

  static constexpr std::uint64_t kListener = ~std::uint64_t{0};

  void Watch(int fd, std::uint32_t what, std::uint64_t who) {
    epoll_event wanted{.events = what, .data = {.u64 = who}};
    Checked(epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &wanted), "epoll_ctl");
  }

  void Turn() {
    const int ready =
        epoll_wait(epoll_, ready_.data(), static_cast<int>(ready_.size()), bench::kPatience * 1000);
    if (ready == 0) throw std::runtime_error("the server takes no messages and sends no event");
    for (int i = 0; i < ready; ++i) {
      const epoll_event& event = ready_[static_cast<std::size_t>(i)];
      if (event.data.u64 == kListener) {
        Listen();
      } else {
        Push(subscribers_[event.data.u64]);
      }
    }
  }

  void Push(Subscriber& subscriber) {
    const std::size_t most = kSend / messages_.frame() * messages_.frame();
    const ssize_t sent =
        send(subscriber.fd, messages_.At(subscriber.position),
             most - subscriber.position % messages_.frame(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) Checked(-1, "send messages");
    if (sent > 0) subscriber.position += static_cast<std::uint64_t>(sent);
  }

  void Finish(const Subscriber& subscriber) const {
    const std::size_t begun = subscriber.position % messages_.frame();
    if (begun != 0) {
      Checked(static_cast<int>(send(subscriber.fd, messages_.At(subscriber.position),
                                    messages_.frame() - begun, MSG_NOSIGNAL)),
              "send messages");
    }
    Checked(shutdown(subscriber.fd, SHUT_WR), "shutdown");
  }

  // Reads the counts that have come; waits for some.
  void Listen() {
    std::array<char, 4096> buffer;
    const ssize_t got = recv(listener_, buffer.data(), buffer.size(), 0);
    if (got == 0) throw std::runtime_error("the server closed the connection that listens");
    Checked(static_cast<int>(got), "no event came");
    unread_.append(buffer.data(), static_cast<std::size_t>(got));
    for (;;) {
      const evrelay::netstring::Decoded frame =
          evrelay::netstring::Decode(unread_, {.data = buffer.size()});
      if (frame.status == evrelay::netstring::Status::kMore) return;
      if (frame.status == evrelay::netstring::Status::kError) {
        throw std::runtime_error("not a frame: " + unread_);
      }
      counts_.push_back(std::stoull(std::string(frame.payload)));
      unread_.erase(0, frame.consumed);
    }
  }

  const Pattern messages_;
  const int listener_;
  int epoll_ = -1;
  std::vector<Subscriber> subscribers_;
  std::vector<epoll_event> ready_{64};
  std::string unread_;
  std::vector<unsigned long long> counts_;
  double seconds_ = 0;  // from the first message to the first count
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fputs("usage: bench-messages PORT SUBSCRIBERS SIZE\n", stderr);
    return 2;
  }
  return bench::Guarded("bench-messages", [&] {
    Load load(static_cast<std::uint16_t>(std::stoul(argv[1])), std::stoul(argv[2]),
              std::stoul(argv[3]));
    bench::AwaitStart();
    load.Run();
    load.Report();
    bench::AwaitEnd();
  });
}
