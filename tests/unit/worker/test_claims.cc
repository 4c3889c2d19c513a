// Hooks on several threads that claim suspended requests.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "support/catch.h"
#include "unit/worker/pool_on_loop.h"

namespace evrelay {
namespace {

struct Nobody final : Requester {
  void OnResumed(SuspendedId, std::string_view) noexcept override {}
  void OnExpired(SuspendedId) noexcept override {}
};

constexpr auto kLater = SuspendedTable::Clock::time_point::max();

// The requests that these commands resume.
std::vector<SuspendedId> Resumed(const std::vector<Command>& commands) {
  std::vector<SuspendedId> all;
  for (const Command& command : commands) {
    for (const Action& action : command.verdict.actions()) {
      if (const auto* resume = std::get_if<action::Resume>(&action)) all.push_back(resume->request);
    }
  }
  return all;
}

TEST_CASE("claims: every event's hook can claim, and give back") {
  PoolOnLoop on;
  Nobody requester;
  std::vector<SuspendedId> requests;
  for (int i = 0; i < 4; ++i) requests.push_back(on.suspended.Suspend(requester, kLater));
  std::vector<bool> claimed;  // the worker's, until Done
  on.SetHooks([&, next = std::size_t{0}](const HookEvent& event, Verdict&) mutable {
    claimed.push_back(event.claims->Claim(requests[next]));
    claimed.push_back(event.claims->Claim(requests[next]));
    if (next == 2) event.claims->GiveBack(requests[next]);
    ++next;
    return HookOutcome::kDone;
  });
  on.New({0, 1});
  on.Messages({0, 1}, {"a", "b"});
  on.Closed({0, 1});
  on.Done();
  CHECK(claimed == std::vector<bool>{true, false, true, false, true, false, true, false});
  for (std::size_t i = 0; i < requests.size(); ++i) {
    CHECK(on.suspended.Claim(requests[i]) == (i == 2));
  }
}

TEST_CASE("claims: a request is resumed by one of many workers") {
  constexpr std::size_t kWorkers = 4;
  constexpr std::size_t kRequests = 2000;
  PoolOnLoop on(kWorkers);
  Nobody requester;
  std::vector<SuspendedId> requests;
  for (std::size_t i = 0; i < kRequests; ++i) {
    requests.push_back(on.suspended.Suspend(requester, kLater));
  }
  const bool failing = GENERATE(false, true);
  std::atomic<unsigned> calls = 0;
  // A message is the number of a request.
  on.SetHooks([&](const HookEvent& event, Verdict& verdict) {
    const SuspendedId request = requests[std::stoul(std::string(event.msg))];
    if (!event.claims->Claim(request)) return HookOutcome::kDone;
    if (failing && ++calls % 2 == 0) {
      event.claims->GiveBack(request);
      return HookOutcome::kError;
    }
    verdict.Add(action::Resume{request, std::to_string(event.connection.conidx)}, 1);
    return HookOutcome::kDone;
  });
  for (std::uint32_t worker = 0; worker < kWorkers; ++worker) {
    MessageBatch batch;
    for (std::size_t i = 0; i < kRequests; ++i) batch.Add(std::to_string(i));
    on.Messages({worker, 1}, std::move(batch));
  }
  std::size_t resumed = 0;
  for (const SuspendedId request : Resumed(on.Done())) {
    ++resumed;
    CHECK(on.suspended.Fulfil(request) == &requester);
  }
  CHECK(resumed > 0);
  if (!failing) CHECK(resumed == kRequests);
  // What was given back by the last that tried waits on, unclaimed.
  CHECK(on.suspended.size() == kRequests - resumed);
  std::size_t claimable = 0;
  for (const SuspendedId request : requests) claimable += on.suspended.Claim(request) ? 1 : 0;
  CHECK(claimable == kRequests - resumed);
}

}  // namespace
}  // namespace evrelay
