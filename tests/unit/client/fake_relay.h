// What the tests of the commands need: a relay that does what the test says, the command in a
// thread of its own, and pipes for its standard streams. All waits end at a deadline.

#ifndef EVRELAY_TESTS_UNIT_CLIENT_FAKE_RELAY_H_
#define EVRELAY_TESTS_UNIT_CLIENT_FAKE_RELAY_H_

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <functional>
#include <future>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "client/streams.h"
#include "evrelay/netstring.h"
#include "util/unique_fd.h"

namespace evrelay::testing {

inline constexpr int kDeadline = 20'000;  // milliseconds; reached only by a test that fails

inline void WaitReadable(int fd) {
  pollfd ready{fd, POLLIN, 0};
  if (::poll(&ready, 1, kDeadline) != 1) throw std::runtime_error("nothing came");
}

// Reads `size` bytes, fewer at EOF.
inline std::string ReadBytes(int fd, std::size_t size) {
  std::string out(size, '\0');
  std::size_t at = 0;
  while (at < size) {
    WaitReadable(fd);
    const ssize_t n = ::read(fd, out.data() + at, size - at);
    if (n <= 0) break;
    at += static_cast<std::size_t>(n);
  }
  out.resize(at);
  return out;
}

inline std::string ReadToEof(int fd) {
  std::string out;
  for (std::string part; !(part = ReadBytes(fd, 4096)).empty();) out += part;
  return out;
}

inline std::string ReadLine(int fd) {
  std::string line;
  do {
    const std::string byte = ReadBytes(fd, 1);
    if (byte.empty()) break;
    line += byte;
  } while (line.back() != '\n');
  return line;
}

struct Pipe {
  Pipe() {
    int fds[2];
    if (::pipe2(fds, O_CLOEXEC) != 0) throw std::runtime_error("pipe2");
    read = UniqueFd(fds[0]);
    write = UniqueFd(fds[1]);
  }
  UniqueFd read;
  UniqueFd write;
};

// One connection, seen from the relay.
class Peer {
 public:
  explicit Peer(UniqueFd fd) : fd_(std::move(fd)) {}

  std::string Read(std::size_t size) { return ReadBytes(fd_.get(), size); }
  std::string ReadAll() { return ReadToEof(fd_.get()); }
  // Waits for the command to end its side, and reads nothing.
  void AwaitEnd() {
    pollfd ready{fd_.get(), POLLRDHUP, 0};
    if (::poll(&ready, 1, kDeadline) != 1) throw std::runtime_error("the end did not come");
  }
  void Write(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) throw std::runtime_error("the command does not read");
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
  }
  void Answer(std::initializer_list<std::string_view> items) {
    Write(netstring::EncodeList(items));
  }
  void FinishWriting() { ::shutdown(fd_.get(), SHUT_WR); }
  void Close() { fd_.Close(); }

 private:
  UniqueFd fd_;
};

class FakeRelay {
 public:
  explicit FakeRelay(const std::string& name = "producer.sock") {
    char pattern[] = "/tmp/evrelay-client-XXXXXX";
    if (::mkdtemp(pattern) == nullptr) throw std::runtime_error("mkdtemp");
    directory_ = pattern;
    path_ = directory_ + "/" + name;
    std::filesystem::create_directories(std::filesystem::path(path_).parent_path());
    listening_ = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.c_str(), path_.size() + 1);
    if (::bind(listening_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(listening_.get(), 8) != 0) {
      throw std::runtime_error("bind " + path_);
    }
  }
  ~FakeRelay() {
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }

  const std::string& path() const { return path_; }
  const std::string& directory() const { return directory_; }

  Peer Accept() {
    WaitReadable(listening_.get());
    return Peer(UniqueFd(::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC)));
  }
  void Stop() { listening_.Close(); }

 private:
  std::string directory_;
  std::string path_;
  UniqueFd listening_;
};

// A command that runs beside the test. Its standard streams are pipes; `out` may be another
// descriptor.
class Running {
 public:
  using Command = std::function<int(const Streams&)>;

  explicit Running(Command command, int out = -1)
      : streams_{.in = in_.read.get(),
                 .out = out < 0 ? out_.write.get() : out,
                 .err = err_.write.get()},
        thread_([this, run = std::move(command)] {
          code_.set_value(run(streams_));
          out_.write.Close();
          err_.write.Close();
        }) {}
  ~Running() {
    in_.write.Close();
    out_.read.Close();
    if (thread_.joinable()) thread_.join();
  }

  void Input(std::string_view text) { WriteAll(in_.write.get(), text); }
  void EndInput() { in_.write.Close(); }
  int out() const { return out_.read.get(); }
  void CloseOutput() { out_.read.Close(); }
  void Signal(int signal) { ::pthread_kill(thread_.native_handle(), signal); }

  int ExitCode() {
    std::future<int> code = code_.get_future();
    if (code.wait_for(std::chrono::milliseconds(kDeadline)) != std::future_status::ready) {
      throw std::runtime_error("the command does not end");
    }
    return code.get();
  }
  // After the command has ended.
  std::string Out() { return ReadToEof(out_.read.get()); }
  std::string Err() { return ReadToEof(err_.read.get()); }
  // Without the warning that nobody can answer event 1, which few tests are about.
  std::string ErrUnwarned() {
    std::string err = Err();
    if (err.starts_with("evrelay pub: event 1 has no $T(id_label)")) {
      err.erase(0, err.find('\n') + 1);
    }
    return err;
  }

 private:
  Pipe in_;
  Pipe out_;
  Pipe err_;
  Streams streams_;
  std::promise<int> code_;
  std::thread thread_;
};

}  // namespace evrelay::testing

#endif  // EVRELAY_TESTS_UNIT_CLIENT_FAKE_RELAY_H_
