// Control: one connection to the control port of the running relay, and what the commands that ask
// it have in common. Blocking; called by main in a process of its own, with nothing else running.

#ifndef EVRELAY_CLIENT_CONTROL_H_
#define EVRELAY_CLIENT_CONTROL_H_

#include <chrono>
#include <functional>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>

#include "client/client.h"
#include "client/streams.h"

namespace evrelay {

// The relay has answered `error CODE TEXT`.
class RelayError : public std::runtime_error {
 public:
  RelayError(std::string_view code, std::string_view text);

  const std::string& code() const { return code_; }
  const std::string& text() const { return text_; }

 private:
  std::string code_;
  std::string text_;
};

class Control {
 public:
  // A relay that lives answers within milliseconds.
  static constexpr std::chrono::seconds kPatience{10};

  // Connects to the control socket at `path`; empty: the default place. Throws.
  explicit Control(const std::string& path) : client_(ConnectControl(path)) {}

  // Asks, and returns what follows `ok` in the answer; empty: nothing does. Throws RelayError, or
  // std::runtime_error when there is no answer within `patience`.
  std::string Ask(std::initializer_list<std::string_view> request,
                  std::chrono::seconds patience = kPatience);

  // The relay's process, to be waited for; none: it cannot be seen from here.
  UniqueFd OpenProcess() const;
  // Waits until the relay has closed the connection, which it does when it ends, and `process`, if
  // there is one, has ended.
  void AwaitEnd(const UniqueFd& process);

 private:
  Client client_;
};

// Prints `text` to standard output. Throws.
void Print(const Streams& streams, std::string_view text);

// Writes `evrelay COMMAND: TEXT`, which may have several lines, to standard error. What could steer
// a terminal is escaped.
void Tell(const Streams& streams, std::string_view command, std::string_view text);

// Does what a command does, and says on standard error why it could not. Returns the exit code;
// `run` gives that of success.
int RunCommand(std::string_view command, const Streams& streams, const std::function<int()>& run);

}  // namespace evrelay

#endif  // EVRELAY_CLIENT_CONTROL_H_
