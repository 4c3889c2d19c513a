#include "client/pub.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <system_error>

#include "client/client.h"
#include "codec/framing.h"
#include "evrelay/netstring.h"

namespace evrelay {

namespace {

constexpr std::size_t kReadSize = std::size_t{256} * 1024;

// No relay takes larger events; most take far less and say so.
constexpr std::uint32_t kMaxEvent = 1 << 30;

constexpr netstring::Limits kInputFrames{.data = kMaxEvent};

// Input becomes frames, frames go out as fast as the relay takes them, answers are checked as they
// come. Input is read only when all that was read before has been sent, and whatever a read gave is
// sent at once: many events in one write when there are many, no delay when there is one.
class Publisher {
 public:
  Publisher(const PubOptions& options, const Streams& streams)
      : options_(options), streams_(streams), client_(ConnectProducer(options.socket)) {}

  int Run() {
    for (const std::string& event : options_.data) AddEvent(event);
    input_open_ = options_.data.empty();
    while (!closed_) {
      Send();
      Wait();
    }
    CheckTheEnd();
    return failed_ ? 1 : 0;
  }

 private:
  void Wait() {
    pollfd ready[] = {
        {client_.fd(), POLLIN, 0},
        {input_open_ && unsent_.empty() ? streams_.in : -1, POLLIN, 0},
    };
    if (!unsent_.empty()) ready[0].events |= POLLOUT;
    if (::poll(ready, 2, -1) < 0) return;  // EINTR
    if ((ready[0].revents & ~POLLOUT) != 0) Receive();
    if (ready[1].revents != 0) ReadInput();
  }

  void Send() {
    if (!client_.Send(unsent_)) {
      // It has closed; why is still to be read.
      refused_ = true;
      input_open_ = false;
      unsent_ = {};
    }
    if (!unsent_.empty()) return;
    pending_.clear();
    if (!input_open_ && !finished_) {
      client_.FinishSending();
      finished_ = true;
    }
  }

  void ReadInput() {
    input_.resize(kReadSize);
    const ssize_t n = ::read(streams_.in, input_.data(), input_.size());
    if (n < 0) {
      if (errno == EINTR || errno == EAGAIN) return;
      EndInput("standard input: " + std::generic_category().message(errno));
      return;
    }
    const std::string_view chunk = std::string_view(input_).substr(0, static_cast<std::size_t>(n));
    if (options_.netstring) {
      TakeFrames(chunk);
    } else {
      TakeLines(chunk);
    }
  }

  // An empty chunk is the end of the input.
  void TakeLines(std::string_view chunk) {
    if (chunk.empty()) {
      if (!line_.empty()) AddEvent(line_);
      EndInput("");
      return;
    }
    while (!chunk.empty()) {
      const std::size_t end = chunk.find('\n');
      const std::string_view piece = chunk.substr(0, end);
      if (line_.size() + piece.size() > kMaxEvent) {
        EndInput("a line of the input is longer than 1 GiB, the most that an event can have");
        return;
      }
      if (end == std::string_view::npos) {
        line_ += piece;
        return;
      }
      chunk.remove_prefix(end + 1);
      if (line_.empty()) {
        AddEvent(piece);
      } else {
        AddEvent(line_ += piece);
        line_.clear();
      }
    }
  }

  void TakeFrames(std::string_view chunk) {
    if (chunk.empty()) {
      EndInput(frames_.Finish() == netstring::Error::kNone
                   ? ""
                   : "truncated: the input ends inside a frame, after " + Count(read_, "frame"));
      return;
    }
    while (true) {
      const FrameReader::Item item = frames_.Next(chunk, kInputFrames);
      if (item.kind == FrameReader::Kind::kMore) return;
      if (item.kind == FrameReader::Kind::kError) {
        EndInput(std::string(Name(item.error)) + ": the input is no netstring after " +
                 Count(read_, "frame"));
        return;
      }
      ++read_;
      if (!item.payload.empty()) AddEvent(item.payload);  // an empty frame is a keepalive
    }
  }

  void AddEvent(std::string_view event) {
    if (event.empty()) {
      ++skipped_;
      return;
    }
    ++sent_;
    if (options_.ack) {
      pending_ += netstring::EncodeList({"relay", event});
    } else {
      netstring::Append(pending_, event);
    }
    unsent_ = pending_;
  }

  // What was read before is still sent.
  void EndInput(const std::string& trouble) {
    input_open_ = false;
    if (!trouble.empty()) Complain(trouble);
  }

  void Receive() {
    switch (client_.Receive()) {
      case Client::Receipt::kNothing:
        return;
      case Client::Receipt::kBytes:
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
    const std::optional<Answer> answer = ParseAnswer(frame);
    if (!answer) return false;
    if (answer->ok) return options_.ack && ++answered_ <= sent_;
    // What pub sends is well-formed, so the producer port never answers it with these.
    if (answer->code == "bad-type" || answer->code == "bad-arguments") {
      throw std::runtime_error(std::string(answer->code) + ": " + std::string(answer->text) +
                               "\nthis looks like the control socket; pub takes the producer "
                               "socket");
    }
    // Data frames are not answered, so nothing tells which one it was.
    std::string where;
    if (options_.ack && answered_ < sent_) where = "event " + std::to_string(++answered_) + ": ";
    explained_ = true;
    Complain(where + std::string(answer->code) + ": " + std::string(answer->text));
    return true;
  }

  void CheckTheEnd() {
    if (options_.ack && answered_ < sent_) {
      Complain("the relay closed the connection; not answered: " +
               Count(sent_ - answered_, "event"));
    } else if ((refused_ || !finished_) && !explained_) {
      Complain("the relay closed the connection before the end; events may be lost");
    }
    if (skipped_ != 0) Print("skipped " + Count(skipped_, "empty line"));
  }

  void Complain(const std::string& text) {
    failed_ = true;
    Print(text);
  }
  void Print(const std::string& text) { WriteAll(streams_.err, "evrelay pub: " + text + "\n"); }

  static std::string Count(std::uint64_t n, const std::string& noun) {
    return std::to_string(n) + " " + noun + (n == 1 ? "" : "s");
  }

  const PubOptions& options_;
  const Streams& streams_;
  Client client_;

  bool input_open_ = false;  // more events may come
  bool finished_ = false;    // the relay was told that no more come
  bool refused_ = false;     // the relay stopped reading
  bool closed_ = false;      // the relay has ended its side
  bool explained_ = false;   // the relay said what was wrong
  bool failed_ = false;

  std::string input_;
  std::string line_;  // unfinished, from earlier reads
  FrameReader frames_;
  std::uint64_t read_ = 0;  // input frames

  std::string pending_;
  std::string_view unsent_;  // the tail of pending_
  std::uint64_t sent_ = 0;   // events
  std::uint64_t answered_ = 0;
  std::uint64_t skipped_ = 0;
};

}  // namespace

int RunPub(const PubOptions& options, const Streams& streams) {
  for (const std::string& event : options.data) {
    if (event.empty()) {
      WriteAll(streams.err, "evrelay pub: DATA is empty; an event has at least one byte\n");
      return 2;
    }
  }
  try {
    return Publisher(options, streams).Run();
  } catch (const std::exception& error) {
    WriteAll(streams.err, "evrelay pub: " + std::string(error.what()) + "\n");
    return 1;
  }
}

}  // namespace evrelay
