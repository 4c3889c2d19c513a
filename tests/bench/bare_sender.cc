// The kernel's limit: accepts N subscribers and pushes the events at them as fast as they take
// them. No producer, no decoding, no log. It is what deliveries per second are compared with.
//
// bare-sender SUBSCRIBERS SIZE CHUNK: prints "port N", then "accepted", waits for a line on
// standard input, then sends at most CHUNK bytes at a time until the last subscriber is gone.

#include <sys/epoll.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <vector>

#include "pattern.h"
#include "sockets.h"

namespace {

struct Subscriber {
  int fd;
  std::uint64_t position;
};

void Run(std::size_t count, std::size_t size, std::size_t chunk) {
  const bench::Pattern pattern(size, bench::Netstring(size));
  bench::RaiseFileLimit();
  std::uint16_t port = 0;
  const int listening = bench::ListenTcp(port);
  std::printf("port %u\n", unsigned{port});
  std::fflush(stdout);

  const int epoll = bench::Checked(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
  std::vector<Subscriber> subscribers;
  for (std::size_t i = 0; i < count; ++i) {
    const int fd = bench::AcceptSubscriber(listening, SOCK_NONBLOCK);
    epoll_event wanted{.events = EPOLLOUT, .data = {.u64 = i}};
    bench::Checked(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &wanted), "epoll_ctl");
    subscribers.push_back({fd, 0});
  }
  std::puts("accepted");
  std::fflush(stdout);
  if (std::getchar() == EOF) return;

  std::vector<epoll_event> events(1024);
  for (std::size_t open = count; open > 0;) {
    const int ready = epoll_wait(epoll, events.data(), static_cast<int>(events.size()), -1);
    for (int i = 0; i < ready; ++i) {
      Subscriber& subscriber = subscribers[events[static_cast<std::size_t>(i)].data.u64];
      const ssize_t sent = send(subscriber.fd, pattern.At(subscriber.position), chunk, 0);
      if (sent > 0) {
        subscriber.position += static_cast<std::uint64_t>(sent);
      } else if (errno != EAGAIN && errno != EINTR) {
        close(subscriber.fd);
        --open;
      }
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fputs("usage: bare-sender SUBSCRIBERS SIZE CHUNK\n", stderr);
    return 2;
  }
  std::signal(SIGPIPE, SIG_IGN);
  const std::size_t count = std::strtoul(argv[1], nullptr, 10);
  const std::size_t size = std::strtoul(argv[2], nullptr, 10);
  const std::size_t chunk = std::strtoul(argv[3], nullptr, 10);
  if (count == 0 || size < bench::Pattern::kSmallest || size > bench::Pattern::kLargest ||
      chunk == 0 || chunk > bench::kRun) {
    std::fprintf(stderr, "bare-sender: SUBSCRIBERS > 0, SIZE %zu to %zu, CHUNK 1 to %zu\n",
                 bench::Pattern::kSmallest, bench::Pattern::kLargest, bench::kRun);
    return 2;
  }
  try {
    Run(count, size, chunk);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bare-sender: %s\n", error.what());
    return 1;
  }
  return 0;
}
