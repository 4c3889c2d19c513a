// HookLoader: reads the script and builds one hook a worker, on a thread of its own, so that a
// reload holds up nothing. All but the building happens on the loop's thread.

#ifndef EVRELAY_WORKER_HOOK_LOADER_H_
#define EVRELAY_WORKER_HOOK_LOADER_H_

#include <chrono>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "config/config.h"
#include "event/mailbox.h"
#include "hook/hook.h"

namespace evrelay {

struct LoadedHooks {
  std::vector<std::unique_ptr<Hook>> hooks;  // one a worker; none when there is no script
  std::string error;                         // not empty: why there are no hooks
};

// Builds the hooks that `config` asks for, from one reading of the file. Waits for it.
LoadedHooks LoadHooks(const Config& config);

class HookLoader {
 public:
  explicit HookLoader(Loop& loop) : done_(loop) {}
  // Waits for the thread.
  ~HookLoader();

  // Begins to load; not while it is busy. Throws std::system_error when there is no thread to be
  // had.
  void Start(Config config);
  // Until Take has given the result.
  bool busy() const { return thread_.joinable(); }

  // The result, once it is there; the loop turns when it is. Called every turn.
  struct Result {
    Config config;
    LoadedHooks loaded;
  };
  std::optional<Result> Take();

  // Waits for the thread, if it is busy. False: it has not ended within `patience`.
  bool Stop(std::chrono::milliseconds patience);

 private:
  Mailbox<Result> done_;
  std::thread thread_;
  std::future<void> ended_;  // when the thread touches nothing here any more
};

}  // namespace evrelay

#endif  // EVRELAY_WORKER_HOOK_LOADER_H_
