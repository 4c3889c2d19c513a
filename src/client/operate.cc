#include "client/operate.h"

#include <chrono>
#include <stdexcept>
#include <string>

#include "client/control.h"

namespace evrelay {

namespace {

// A script may take a second to load in each worker, and another reload may be under way.
constexpr std::chrono::seconds kReloadPatience{60};

}  // namespace

int RunClose(const CloseOptions& options, const Streams& streams) {
  return RunCommand("close", streams, [&] {
    Control(options.socket).Ask({"close", std::to_string(options.conidx)});
    return 0;
  });
}

int RunReload(const ReloadOptions& options, const Streams& streams) {
  return RunCommand("reload", streams, [&] {
    try {
      const std::string notes = Control(options.socket).Ask({"reload"}, kReloadPatience);
      if (!notes.empty()) Tell(streams, "reload", "done, but\n" + notes);
    } catch (const RelayError& error) {
      if (error.code() != "reload-failed") throw;
      throw std::runtime_error("nothing has changed:\n" + error.text());
    }
    return 0;
  });
}

int RunDrain(const DrainOptions& options, const Streams& streams) {
  return RunCommand("drain", streams, [&] {
    Control control(options.socket);
    // While it surely is the relay's.
    const UniqueFd process = control.OpenProcess();
    control.Ask({"drain"});
    control.AwaitEnd(process);
    return 0;
  });
}

}  // namespace evrelay
