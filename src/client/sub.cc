#include "client/sub.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <system_error>

#include "client/client.h"
#include "client/event_format.h"
#include "codec/framing.h"
#include "evrelay/netstring.h"
#include "net/address.h"
#include "util/unique_fd.h"

namespace evrelay {

namespace {

// Output is gathered up to this size while more input is at hand.
constexpr std::size_t kFlushSize = std::size_t{256} * 1024;

// A descriptor that poll calls writable takes so much without waiting.
constexpr std::size_t kWriteSize = PIPE_BUF;

// Milliseconds that a reader of the output gets, once a signal has come, to take what is left.
constexpr int kLastWait = 1000;

// SIGINT and SIGTERM of this thread as a descriptor: a signal that comes just before a wait ends
// that wait too.
class StopSignals {
 public:
  StopSignals() {
    sigset_t stop;
    ::sigemptyset(&stop);
    ::sigaddset(&stop, SIGINT);
    ::sigaddset(&stop, SIGTERM);
    ::pthread_sigmask(SIG_BLOCK, &stop, &before_);
    fd_ = UniqueFd(::signalfd(-1, &stop, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!fd_) throw std::system_error(errno, std::generic_category(), "signalfd");
  }
  ~StopSignals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  int fd() const { return fd_.get(); }
  void Take() {
    signalfd_siginfo info;
    while (::read(fd(), &info, sizeof info) > 0) {
    }
  }

 private:
  sigset_t before_;
  UniqueFd fd_;
};

class Subscription {
 public:
  Subscription(const SubOptions& options, const BindAddress& address, const TlsContext* tls,
               const Streams& streams)
      : options_(options),
        streams_(streams),
        terminal_(::isatty(streams.out) == 1),
        client_(ConnectSubscriber(address, tls, options.server_name)) {
    for (const std::string& message : options.send) netstring::Append(messages_, message);
    unsent_ = messages_;
  }

  int Run() {
    while (end_ == End::kNone) {
      if (CountReached()) {
        end_ = End::kCount;
      } else if (!client_.Send(unsent_)) {
        unsent_ = {};  // the relay has closed; the rest is read before that is told
      } else {
        Step();
      }
    }
    if (end_ != End::kOutput) Flush();
    return Report();
  }

 private:
  enum class End {
    kNone,
    kCount,      // as many events as were asked for
    kSignal,     // SIGINT or SIGTERM
    kOutput,     // nobody reads standard output any more
    kClosed,     // the relay ended the connection
    kBroken,     // the connection was reset
    kNotEvents,  // what came is not framed
  };

  bool CountReached() const { return options_.count && events_ >= *options_.count; }

  // Reads what is there; writes out and waits when nothing is.
  void Step() {
    switch (client_.Receive()) {
      case Client::Receipt::kBytes:
        TakeEvents();
        if (out_.size() >= kFlushSize) Flush();
        break;
      case Client::Receipt::kNothing:
        Flush();
        if (end_ == End::kNone) Wait();
        break;
      case Client::Receipt::kEof:
        end_ = End::kClosed;
        break;
      case Client::Receipt::kBroken:
        end_ = End::kBroken;
        break;
    }
  }

  void Wait() {
    pollfd ready[] = {
        {client_.fd(), POLLIN, 0},
        {signals_.fd(), POLLIN, 0},
        {streams_.out, 0, 0},
    };
    if (!unsent_.empty()) ready[0].events |= POLLOUT;
    if (::poll(ready, 3, -1) < 0) return;  // EINTR
    if (ready[1].revents != 0) end_ = End::kSignal;
    if (ready[2].revents != 0) end_ = End::kOutput;
  }

  void TakeEvents() {
    const WallTime now = std::chrono::system_clock::now();
    while (!CountReached()) {
      const FrameReader::Item item = client_.Next();
      if (item.kind == FrameReader::Kind::kMore) return;
      if (item.kind == FrameReader::Kind::kError) {
        end_ = End::kNotEvents;
        return;
      }
      if (item.payload.empty()) continue;  // a keepalive
      ++events_;
      bytes_ += item.payload.size();
      Append(now, item.payload);
    }
  }

  void Append(WallTime when, std::string_view payload) {
    switch (options_.format) {
      case SubOptions::Format::kText:
        if (terminal_) {
          AppendTerminalLine(out_, when, payload);
        } else {
          out_ += payload;
          out_ += '\n';
        }
        break;
      case SubOptions::Format::kJson:
        AppendJsonLine(out_, when, payload);
        break;
      case SubOptions::Format::kRaw:
        out_ += payload;
        break;
      case SubOptions::Format::kNetstring:
        netstring::Append(out_, payload);
        break;
    }
  }

  // Writes what was gathered. A signal ends it soon, even if nobody reads the output.
  void Flush() {
    std::string_view rest = out_;
    while (!rest.empty()) {
      const bool stopping = end_ == End::kSignal;
      pollfd ready[] = {{streams_.out, POLLOUT, 0}, {stopping ? -1 : signals_.fd(), POLLIN, 0}};
      const int found = ::poll(ready, 2, stopping ? kLastWait : -1);
      if (found < 0) continue;  // EINTR
      if (found == 0) break;
      if (ready[1].revents != 0) end_ = End::kSignal;
      if (ready[0].revents == 0) continue;

      const ssize_t n = ::write(streams_.out, rest.data(), std::min(rest.size(), kWriteSize));
      if (n >= 0) {
        rest.remove_prefix(static_cast<std::size_t>(n));
      } else if (errno == EPIPE || errno == EIO) {  // EIO: the terminal is gone
        end_ = End::kOutput;
        break;
      } else if (errno != EAGAIN && errno != EINTR) {
        throw std::system_error(errno, std::generic_category(), "standard output");
      }
    }
    out_.clear();
  }

  int Report() {
    const std::string count = std::to_string(events_) + (events_ == 1 ? " event, " : " events, ") +
                              std::to_string(bytes_) + " bytes";
    switch (end_) {
      case End::kNone:
      case End::kCount:
      case End::kOutput:
        return 0;
      case End::kSignal:
        signals_.Take();
        Print(count);
        return 0;
      case End::kClosed:
        Print(count + (client_.truncated() ? "; the relay closed the connection inside a frame"
                                           : "; the relay closed the connection"));
        return 1;
      case End::kBroken:
        Print(count + "; the connection to the relay broke" +
              (client_.trouble().empty() ? "" : ": " + client_.trouble()));
        return 1;
      case End::kNotEvents:
        Print(count +
              "; then came what is no netstring: is this the relay's subscriber port, and is its "
              "netstring_format true?");
        return 1;
    }
    return 1;
  }

  void Print(const std::string& text) { WriteAll(streams_.err, "evrelay sub: " + text + "\n"); }

  const SubOptions& options_;
  const Streams& streams_;
  const bool terminal_;
  Client client_;
  StopSignals signals_;

  std::string messages_;
  std::string_view unsent_;  // the tail of messages_

  std::string out_;  // not yet written
  std::uint64_t events_ = 0;
  std::uint64_t bytes_ = 0;
  End end_ = End::kNone;
};

}  // namespace

int RunSub(const SubOptions& options, const Streams& streams) {
  for (const std::string& message : options.send) {
    if (message.empty()) {
      WriteAll(streams.err, "evrelay sub: TEXT is empty; a message has at least one byte\n");
      return 2;
    }
  }
  std::string malformed;
  const std::optional<BindAddress> address = ParseBindAddress(options.address, malformed);
  if (!address) {
    WriteAll(streams.err, "evrelay sub: " + malformed + "\n");
    return 2;
  }
  if (options.tls && address->is_unix() && options.server_name.empty()) {
    WriteAll(streams.err,
             "evrelay sub: a Unix socket has no name that a certificate could be for; give one "
             "with --server-name\n");
    return 2;
  }
  std::shared_ptr<const TlsContext> tls;
  try {
    if (options.tls) tls = LoadTls(*options.tls);
  } catch (const std::runtime_error& error) {
    WriteAll(streams.err, "evrelay sub: " + std::string(error.what()) + "\n");
    return 2;
  }
  ::signal(SIGPIPE, SIG_IGN);
  try {
    return Subscription(options, *address, tls.get(), streams).Run();
  } catch (const std::exception& error) {
    WriteAll(streams.err, "evrelay sub: " + std::string(error.what()) + "\n");
    return 1;
  }
}

}  // namespace evrelay
