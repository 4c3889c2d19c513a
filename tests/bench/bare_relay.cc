// The shortest way from a producer to N subscribers: read, then send to each. No decoding, no log,
// no waiting for more than one socket. It is what latency is compared with.
//
// bare-relay SUBSCRIBERS PRODUCER_SOCKET: prints "port N", then "accepted" when the producer and
// all subscribers are there; ends with the producer. All sockets block.

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#include "sockets.h"

namespace {

void SendAll(int fd, const char* data, std::size_t size) {
  while (size > 0) {
    const int sent = bench::Checked(static_cast<int>(send(fd, data, size, 0)), "send");
    data += sent;
    size -= static_cast<std::size_t>(sent);
  }
}

void Run(std::size_t count, const std::string& path) {
  bench::RaiseFileLimit();
  std::uint16_t port = 0;
  const int listening = bench::ListenTcp(port);
  const int producers = bench::ListenUnix(path);
  std::printf("port %u\n", unsigned{port});
  std::fflush(stdout);

  std::vector<int> subscribers;
  while (subscribers.size() < count) subscribers.push_back(bench::AcceptSubscriber(listening, 0));
  const int producer =
      bench::Checked(accept4(producers, nullptr, nullptr, SOCK_CLOEXEC), "accept a producer");
  std::puts("accepted");
  std::fflush(stdout);

  std::vector<char> buffer(256 * 1024);
  for (;;) {
    const auto size = static_cast<std::size_t>(bench::Checked(
        static_cast<int>(recv(producer, buffer.data(), buffer.size(), 0)), "read the producer"));
    if (size == 0) return;
    for (const int fd : subscribers) SendAll(fd, buffer.data(), size);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fputs("usage: bare-relay SUBSCRIBERS PRODUCER_SOCKET\n", stderr);
    return 2;
  }
  std::signal(SIGPIPE, SIG_IGN);
  try {
    Run(std::strtoul(argv[1], nullptr, 10), argv[2]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bare-relay: %s\n", error.what());
    return 1;
  }
  return 0;
}
