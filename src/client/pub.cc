#include "client/pub.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <unordered_map>

#include "client/client.h"
#include "client/event_format.h"
#include "client/progress_line.h"
#include "client/pub_input.h"
#include "codec/framing.h"
#include "evrelay/ids.h"
#include "evrelay/netstring.h"

namespace evrelay {

namespace {

// What is framed before it is sent, and one event more.
constexpr std::size_t kBatch = std::size_t{256} * 1024;

// Events of --async that are not decided yet, and what they said that has not been written: no more
// are taken from the input beyond either. The relay answers `overloaded` to more than a quarter of
// async.max_suspended, which is this by default.
constexpr std::uint64_t kMaxUndecided = 2500;
constexpr std::size_t kMaxOutput = std::size_t{1024} * 1024;

// A descriptor that poll calls writable takes so much without waiting.
constexpr std::size_t kWriteSize = PIPE_BUF;

// With --timeout every request is answered before that is over; how much longer a relay may be
// silent that has some to answer.
constexpr std::chrono::seconds kAnswerMargin{10};

// Of each error, so many are told by their event.
constexpr std::uint64_t kShownErrors = 5;

// Events become frames, frames go out as fast as the relay takes them, answers are checked as they
// come. Input is read only when all that was read before has been sent, and whatever a read gave is
// sent at once: many events in one write when there are many, no delay when there is one.
//
// Events are numbered from 1. Requests are answered in order; what becomes of a suspended one is
// told later and in any order, by the numbers of its `suspended` answer.
class Publisher {
 public:
  using Clock = std::chrono::steady_clock;

  Publisher(const PubOptions& options, const Streams& streams)
      : options_(options),
        streams_(streams),
        client_(ConnectProducer(options.socket)),
        input_(options.data, streams.in, options.netstring),
        escape_output_(!options.netstring && ::isatty(streams.out) == 1),
        progress_(ShowsProgress() ? streams.err : -1) {
    const std::string kind = !options.multicast.empty() ? "multicast"
                             : !options.unicast.empty() ? "unicast"
                                                        : "relay";
    verb_ = (options.async ? "async_" : "") + kind;
    request_ = {verb_, {}};
    if (!options.multicast.empty()) request_.push_back(options.multicast);
    if (!options.unicast.empty()) request_.push_back(options.unicast);
    if (options.timeout) {
      timeout_ = std::to_string(options.timeout->count());
      request_.push_back(timeout_);
    }
  }

  int Run() {
    while (!closed_) {
      TakeEvents();
      Send();
      Wait();
    }
    if (const int error = WriteAll(streams_.out, Unwritten()); error != 0) FailOutput(error);
    CheckTheEnd();
    return failed_ ? 1 : 0;
  }

 private:
  // Not where somebody types events or reads answers.
  bool ShowsProgress() const {
    return ::isatty(streams_.err) == 1 && options_.data.empty() && ::isatty(streams_.in) != 1 &&
           !(options_.async && ::isatty(streams_.out) == 1);
  }

  bool MayTakeEvents() const {
    if (refused_ || !unsent_.empty()) return false;
    if (!options_.async) return true;
    return sent_ - decided_ < kMaxUndecided && Unwritten().size() < kMaxOutput;
  }

  void TakeEvents() {
    if (!unsent_.empty()) return;
    pending_.clear();
    starved_ = false;
    while (MayTakeEvents() && pending_.size() < kBatch) {
      const std::optional<std::string_view> event = input_.Next();
      if (!event) {
        starved_ = !input_.ended();
        break;
      }
      AddEvent(*event);
    }
    unsent_ = pending_;
  }

  void AddEvent(std::string_view event) {
    if (options_.async && !warned_ && event.find("$T(id_label)") == std::string_view::npos) {
      warned_ = true;
      Print("event " + std::to_string(sent_ + 1) +
            " has no $T(id_label), so nobody can answer it; in a shell, put it in single quotes");
    }
    if (sent_ == decided_) heard_ = Clock::now();
    ++sent_;
    if (options_.requests()) {
      request_[1] = event;
      pending_ += netstring::EncodeList(request_);
    } else {
      netstring::Append(pending_, event);
    }
  }

  void Send() {
    if (!client_.Send(unsent_)) {
      // It has closed; why is still to be read.
      refused_ = true;
      unsent_ = {};
    }
    if (!unsent_.empty() || finished_) return;
    if (!input_.ended() && !refused_) return;
    finished_ = true;
    client_.FinishSending();
    if (!input_.trouble().empty()) Fail(input_.trouble());
  }

  void Wait() {
    pollfd ready[] = {
        {client_.fd(), POLLIN, 0},
        {starved_ && unsent_.empty() && !refused_ ? input_.fd() : -1, POLLIN, 0},
        {output_.empty() ? -1 : streams_.out, POLLOUT, 0},
    };
    if (!unsent_.empty()) ready[0].events |= POLLOUT;
    const bool more = !starved_ && !input_.ended() && MayTakeEvents();
    const int progress = progress_.Update(options_.requests() ? decided_ : sent_, sent_);
    if (::poll(ready, 3, more ? 0 : UntilSilence(progress)) < 0) return;  // EINTR
    if ((ready[0].revents & ~POLLOUT) != 0) Receive();
    if (ready[1].revents != 0) input_.Read();
    if (ready[2].revents != 0) WriteOutput();
  }

  // When the next poll is to end at the latest, in ms from now: after `progress` (-1: never), or
  // when the relay has been silent for too long. Throws when it has been.
  int UntilSilence(int progress) const {
    if (!options_.timeout || sent_ == decided_) return progress;
    const auto patience = *options_.timeout + kAnswerMargin;
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(heard_ + patience - Clock::now()).count();
    if (left <= 0) {
      throw std::runtime_error("the relay has been silent for " + std::to_string(patience.count()) +
                               " ms; not answered: " + Count(sent_ - decided_, "event"));
    }
    const int ms = static_cast<int>(std::min<std::int64_t>(left, INT_MAX));
    return progress < 0 ? ms : std::min(progress, ms);
  }

  void WriteOutput() {
    const std::string_view some = Unwritten().substr(0, kWriteSize);
    const ssize_t n = ::write(streams_.out, some.data(), some.size());
    if (n < 0) {
      if (errno != EAGAIN && errno != EINTR) FailOutput(errno);
      return;
    }
    written_ += static_cast<std::size_t>(n);
    if (written_ == output_.size() || written_ > kMaxOutput) {
      output_.erase(0, written_);
      written_ = 0;
    }
  }

  std::string_view Unwritten() const { return std::string_view(output_).substr(written_); }

  [[noreturn]] static void FailOutput(int error) {
    throw std::system_error(error, std::generic_category(), "standard output");
  }

  void Receive() {
    switch (client_.Receive()) {
      case Client::Receipt::kNothing:
        return;
      case Client::Receipt::kBytes:
        heard_ = Clock::now();
        break;
      case Client::Receipt::kEof:
        closed_ = true;
        return;
      case Client::Receipt::kBroken:
        closed_ = true;
        refused_ = true;
        return;
    }
    while (true) {
      const FrameReader::Item item = client_.Next();
      if (item.kind == FrameReader::Kind::kMore) return;
      if (item.kind == FrameReader::Kind::kError || !TakeAnswer(item)) {
        throw std::runtime_error("what answers at this socket is not the producer port of evrelay");
      }
    }
  }

  // False: this is no answer to what was sent. Throws when it is one of the control port.
  bool TakeAnswer(const FrameReader::Item& frame) {
    if (options_.async) {
      const std::optional<AsyncAnswer> answer = ParseAsyncAnswer(frame);
      if (answer) return TakeAsyncAnswer(*answer);
    }
    const std::optional<Answer> answer = ParseAnswer(frame);
    if (!answer) return false;
    if (answer->ok) {
      if (options_.async || answered_ == sent_) return false;
      ++answered_;
      ++decided_;
      return true;
    }
    // What pub sends is well-formed, so the producer port never answers it with these.
    if (answer->code == "bad-type" || answer->code == "bad-arguments" ||
        answer->code == "unknown-verb") {
      throw std::runtime_error(std::string(answer->code) + ": " + std::string(answer->text) +
                               "\nthis looks like the control socket; pub takes the producer "
                               "socket");
    }
    // Data frames are not answered, so nothing tells which one it was.
    const bool numbered = options_.requests() && answered_ < sent_;
    if (numbered) {
      ++answered_;
      ++decided_;
    } else {
      explained_ = true;
    }
    TellError(numbered ? answered_ : 0, answer->code, answer->text);
    return true;
  }

  bool TakeAsyncAnswer(const AsyncAnswer& answer) {
    if (answer.kind == AsyncAnswer::Kind::kSuspended) {
      if (answered_ == sent_) return false;
      const Suspended suspended{answer.request.label, ++answered_};
      return suspended_.emplace(answer.request.index, suspended).second;
    }
    const auto found = suspended_.find(answer.request.index);
    if (found == suspended_.end() || found->second.label != answer.request.label) return false;
    const std::uint64_t event = found->second.event;
    suspended_.erase(found);
    ++decided_;
    switch (answer.kind) {
      case AsyncAnswer::Kind::kResumed:
        AppendOutput(answer.data);
        break;
      case AsyncAnswer::Kind::kExpired:
        TellError(event, "expired", "no hook resumed it in time");
        break;
      default:
        TellError(event, "draining", "the relay is stopping");
    }
    return true;
  }

  void AppendOutput(std::string_view data) {
    if (options_.netstring) {
      netstring::Append(output_, data);
      return;
    }
    if (escape_output_) {
      AppendEscaped(output_, data);
    } else {
      output_ += data;
    }
    output_ += '\n';
  }

  void CheckTheEnd() {
    if (options_.requests() && decided_ < sent_) {
      Fail("the relay closed the connection; not answered: " + Count(sent_ - decided_, "event"));
    } else if ((refused_ || !finished_) && !explained_) {
      Fail("the relay closed the connection before the end; events may be lost");
    }
    for (const auto& [code, count] : errors_) {
      if (count > kShownErrors) Print(code + ": " + Count(count, "event") + " in all");
    }
    if (input_.empty_lines() != 0) Print("skipped " + Count(input_.empty_lines(), "empty line"));
  }

  // `event`: its number; 0: not known.
  void TellError(std::uint64_t event, std::string_view code, std::string_view text) {
    failed_ = true;
    auto count = errors_.find(code);
    if (count == errors_.end()) count = errors_.emplace(code, 0).first;
    if (++count->second <= kShownErrors) {
      Print((event == 0 ? "" : "event " + std::to_string(event) + ": ") + std::string(code) + ": " +
            std::string(text));
    } else if (count->second == kShownErrors + 1) {
      Print(std::string(code) + ": more of these are counted, not shown");
    }
  }

  void Fail(const std::string& text) {
    failed_ = true;
    Print(text);
  }

  void Print(const std::string& text) {
    progress_.Wipe();
    WriteAll(streams_.err, "evrelay pub: " + text + "\n");
  }

  struct Suspended {
    std::uint32_t label = 0;
    std::uint64_t event = 0;
  };

  const PubOptions& options_;
  const Streams& streams_;
  Client client_;
  PubInput input_;
  const bool escape_output_;
  ProgressLine progress_;

  std::string verb_;
  std::string timeout_;
  std::vector<std::string_view> request_;  // the second is the event

  bool starved_ = false;    // input is to be read before there are more events
  bool finished_ = false;   // the relay was told that no more come
  bool refused_ = false;    // the relay stopped reading
  bool closed_ = false;     // the relay has ended its side
  bool explained_ = false;  // the relay said what was wrong
  bool failed_ = false;
  bool warned_ = false;  // of an event that nobody can answer

  std::string pending_;
  std::string_view unsent_;  // the tail of pending_

  // Events. Each that was sent is answered once, and decided with that or, suspended, later.
  std::uint64_t sent_ = 0;
  std::uint64_t answered_ = 0;
  std::uint64_t decided_ = 0;
  std::unordered_map<std::uint32_t, Suspended> suspended_;  // by index
  Clock::time_point heard_;  // when the relay last said something, or had nothing to answer

  std::string output_;
  std::size_t written_ = 0;  // of output_

  std::map<std::string, std::uint64_t, std::less<>> errors_;  // by code
};

}  // namespace

int RunPub(const PubOptions& options, const Streams& streams) {
  for (const std::string& event : options.data) {
    if (event.empty()) {
      WriteAll(streams.err, "evrelay pub: DATA is empty; an event has at least one byte\n");
      return 2;
    }
  }
  ::signal(SIGPIPE, SIG_IGN);
  try {
    return Publisher(options, streams).Run();
  } catch (const std::exception& error) {
    WriteAll(streams.err, "evrelay pub: " + std::string(error.what()) + "\n");
    return 1;
  }
}

}  // namespace evrelay
