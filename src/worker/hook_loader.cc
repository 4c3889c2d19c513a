#include "worker/hook_loader.h"

#include <algorithm>
#include <new>
#include <utility>

#include "hook/lua_hook.h"

namespace evrelay {

LoadedHooks LoadHooks(const Config& config) {
  LoadedHooks loaded;
  if (config.script.empty()) return loaded;
  Script script;
  if (!ReadScript(config, script, loaded.error)) return loaded;
  const std::size_t workers = std::max(config.workers, std::uint32_t{1});
  while (loaded.hooks.size() < workers) {
    std::unique_ptr<Hook> hook = LoadLuaHook(config, script, loaded.error);
    if (hook == nullptr) {
      loaded.hooks.clear();
      return loaded;
    }
    loaded.hooks.push_back(std::move(hook));
  }
  return loaded;
}

HookLoader::~HookLoader() {
  if (thread_.joinable()) thread_.join();
}

void HookLoader::Start(Config config) {
  std::promise<void> end;
  ended_ = end.get_future();
  thread_ = std::thread([this, end = std::move(end), config = std::move(config)]() mutable {
    LoadedHooks loaded;
    try {
      loaded = LoadHooks(config);
    } catch (const std::bad_alloc&) {
      loaded.error = "out of memory";
    }
    done_.Post({std::move(config), std::move(loaded)}, 1);
    end.set_value();
  });
}

std::optional<HookLoader::Result> HookLoader::Take() {
  std::optional<Result> result;
  done_.Take(1, [&result](Result&& done) { result = std::move(done); });
  if (result) thread_.join();
  return result;
}

bool HookLoader::Stop(std::chrono::milliseconds patience) {
  if (!busy()) return true;
  if (ended_.wait_for(patience) != std::future_status::ready) return false;
  thread_.join();
  return true;
}

}  // namespace evrelay
