#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "relay/connection.h"
#include "relay/connection_table.h"
#include "support/catch.h"

namespace evrelay {
namespace {

class Nobody final : public Connection {
 public:
  Sent Send(BroadcastLog&) noexcept override { return {SendResult::kDrained, 0}; }
  bool AnnounceNew() noexcept override { return false; }
  bool AnnounceClosed(CloseReason) noexcept override { return false; }
  void OnHandled(std::uint32_t, std::uint64_t) noexcept override {}
  void StartReading() noexcept override {}
  void StopReading() noexcept override {}
  bool Delivered() const noexcept override { return true; }
  bool Unreachable() const noexcept override { return false; }
  bool Linger() noexcept override { return false; }
  void Reset() noexcept override {}
  std::uint32_t Unhandled() const override { return 0; }
  std::string Peer() const noexcept override { return "nobody"; }
};

}  // namespace

TEST_CASE("connection table: the lowest free conidx is given out first") {
  ConnectionTable table;
  Nobody connections[5];
  ConnectionId ids[5];
  for (std::uint32_t i = 0; i < 5; ++i) {
    ids[i] = table.Insert(connections[i]);
    CHECK(ids[i].conidx == i);
  }
  table.Release(ids[3]);
  table.Release(ids[1]);
  table.Release(ids[4]);
  CHECK(table.Insert(connections[1]).conidx == 1);
  CHECK(table.Insert(connections[3]).conidx == 3);
  CHECK(table.Insert(connections[4]).conidx == 4);
  Nobody more;
  CHECK(table.Insert(more).conidx == 5);
}

TEST_CASE("connection table: finds who is there, and nobody under an old name") {
  ConnectionTable table;
  Nobody first;
  Nobody second;
  CHECK(table.Find({0, 0}) == nullptr);
  const ConnectionId old = table.Insert(first);
  CHECK(table.Find(old) == &first);
  CHECK(table.Find({old.conidx, old.generation + 1}) == nullptr);
  CHECK(table.Find({old.conidx + 1, old.generation}) == nullptr);

  table.Release(old);
  CHECK(table.Find(old) == nullptr);

  const ConnectionId next = table.Insert(second);
  CHECK(next.conidx == old.conidx);
  CHECK_FALSE(next == old);
  CHECK(table.Find(next) == &second);
  CHECK(table.Find(old) == nullptr);
}

TEST_CASE("connection table: goes through those that are there in order") {
  ConnectionTable table;
  Nobody connections[4];
  CHECK(table.FirstFrom(0) == nullptr);
  ConnectionId ids[4];
  for (std::uint32_t i = 0; i < 4; ++i) ids[i] = table.Insert(connections[i]);
  table.Detach(ids[0]);
  table.Release(ids[2]);
  CHECK(table.FirstFrom(0) == &connections[1]);
  CHECK(table.FirstFrom(1) == &connections[1]);
  CHECK(table.FirstFrom(2) == &connections[3]);
  CHECK(table.FirstFrom(3) == &connections[3]);
  CHECK(table.FirstFrom(4) == nullptr);
  CHECK(table.FirstFrom(UINT32_MAX) == nullptr);
}

TEST_CASE("connection table: a conidx stays taken until it is released") {
  ConnectionTable table;
  Nobody nobody;
  const ConnectionId first = table.Insert(nobody);
  const ConnectionId second = table.Insert(nobody);
  table.Detach(first);
  CHECK(table.Find(first) == nullptr);
  CHECK(table.At(0) == nullptr);
  CHECK(table.At(1) == &nobody);
  CHECK(table.detached() == 1);
  CHECK(table.Insert(nobody).conidx == 2);
  table.Detach(first);
  CHECK(table.detached() == 1);
  table.Release(first);
  CHECK(table.detached() == 0);
  const ConnectionId next = table.Insert(nobody);
  CHECK(next.conidx == 0);
  table.Detach(first);  // the old name: nothing happens
  CHECK(table.Find(next) == &nobody);

  table.Release(second);
  CHECK(table.detached() == 0);
  table.Detach(second);
  CHECK(table.detached() == 0);
}

TEST_CASE("connection table: random use against a model") {
  const auto seed = GENERATE(range(1U, 21U));
  CAPTURE(seed);
  std::mt19937 random(seed);
  std::vector<Nobody> nobodies(40);
  ConnectionTable table;
  std::map<std::uint32_t, std::pair<ConnectionId, Connection*>> live;
  std::vector<ConnectionId> gone;
  bool good = true;
  for (int step = 0; step < 2000; ++step) {
    const bool insert = live.empty() || (live.size() < nobodies.size() && random() % 2 == 0);
    if (insert) {
      std::uint32_t lowest = 0;
      while (live.count(lowest) != 0) ++lowest;
      Connection& connection = nobodies[random() % nobodies.size()];
      const ConnectionId id = table.Insert(connection);
      good = good && id.conidx == lowest;
      live[id.conidx] = {id, &connection};
    } else {
      auto at = live.begin();
      std::advance(at, random() % live.size());
      table.Release(at->second.first);
      gone.push_back(at->second.first);
      live.erase(at);
    }
    for (const auto& [conidx, entry] : live) good = good && table.Find(entry.first) == entry.second;
    if (!gone.empty()) good = good && table.Find(gone[random() % gone.size()]) == nullptr;
  }
  CHECK(good);
}

}  // namespace evrelay
