#include "client/control.h"

#include <errno.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <exception>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>

#include "client/event_format.h"
#include "codec/framing.h"
#include "evrelay/netstring.h"
#include "net/peer_credentials.h"

namespace evrelay {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// Without end when `timeout` is negative.
void Poll(int fd, short events, int timeout) {
  pollfd ready{fd, events, 0};
  while (::poll(&ready, 1, timeout) < 0 && errno == EINTR && timeout < 0) {
  }
}

}  // namespace

RelayError::RelayError(std::string_view code, std::string_view text)
    : std::runtime_error(std::string(code) + ": " + std::string(text)), code_(code), text_(text) {}

std::string Control::Ask(std::initializer_list<std::string_view> request,
                         std::chrono::seconds patience) {
  const std::string bytes = netstring::EncodeList(request);
  std::string_view unsent = bytes;
  const Clock::time_point deadline = Clock::now() + patience;
  while (true) {
    // A relay that no longer listens has left its reason to be read.
    if (!client_.Send(unsent)) unsent = {};
    switch (client_.Receive()) {
      case Client::Receipt::kBytes:
        break;
      case Client::Receipt::kNothing: {
        const auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now());
        if (left <= milliseconds::zero()) {
          throw std::runtime_error("the relay did not answer within " +
                                   std::to_string(patience.count()) + " s");
        }
        Poll(client_.fd(), unsent.empty() ? POLLIN : POLLIN | POLLOUT,
             static_cast<int>(left.count()));
        continue;
      }
      case Client::Receipt::kEof:
      case Client::Receipt::kBroken:
        throw std::runtime_error("the relay closed the connection without an answer");
    }
    const FrameReader::Item item = client_.Next();
    if (item.kind == FrameReader::Kind::kMore) continue;
    std::optional<Answer> answer;
    if (item.kind == FrameReader::Kind::kFrame) answer = ParseAnswer(item);
    if (!answer) {
      throw std::runtime_error("what answers at this socket is not the control port of evrelay");
    }
    if (!answer->ok) throw RelayError(answer->code, answer->text);
    return std::string(answer->argument.value_or(""));
  }
}

UniqueFd Control::OpenProcess() const {
  const std::optional<PeerCredentials> relay = ReadPeerCredentials(client_.fd());
  if (!relay || relay->pid == 0) return UniqueFd();
  return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, relay->pid, 0)));
}

void Control::AwaitEnd(const UniqueFd& process) {
  while (true) {
    const Client::Receipt receipt = client_.Receive();
    if (receipt == Client::Receipt::kEof || receipt == Client::Receipt::kBroken) break;
    Poll(client_.fd(), POLLIN, -1);
  }
  if (process) Poll(process.get(), POLLIN, -1);
}

void Print(const Streams& streams, std::string_view text) {
  const int error = WriteAll(streams.out, text);
  if (error != 0) throw std::system_error(error, std::generic_category(), "standard output");
}

void Tell(const Streams& streams, std::string_view command, std::string_view text) {
  std::string out = "evrelay " + std::string(command) + ": ";
  while (true) {
    const std::size_t end = text.find('\n');
    AppendEscaped(out, text.substr(0, end));
    out += '\n';
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  WriteAll(streams.err, out);
}

int RunCommand(std::string_view command, const Streams& streams, const std::function<int()>& run) {
  std::string trouble;
  try {
    return run();
  } catch (const RelayError& error) {
    trouble = error.what();
    // The control port knows what the commands ask for, the producer port nothing of it.
    if (error.code() == "unknown-verb") {
      trouble += "\nthis looks like the producer socket; " + std::string(command) +
                 " takes the control socket";
    }
  } catch (const nlohmann::json::exception&) {
    trouble = "the relay's answer is not understood; is it another version of evrelay?";
  } catch (const std::exception& error) {
    trouble = error.what();
  }
  Tell(streams, command, trouble);
  return 1;
}

}  // namespace evrelay
