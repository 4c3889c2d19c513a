// Hub: where every event passes. Its methods are the verbs; producers (and later hooks) call them.
//
// An event is appended to the log and touches no subscriber. Once a turn of the loop, Flush sends
// each subscriber everything due to it. So k events of a turn share one send, a single event leaves
// at once, and nobody who is not blocked ever lags.
//
// Every connection is in exactly one queue:
//   caught up  has been sent everything up to the log's mark; sent to when there are new events
//   due        has something of its own: sent to in the next flush
//   blocked    its socket is full; waits for OnWritable
//   lingering  closed on our side, waits for the peer's end
// Those that are closing with frames still due are also in closing_, in the order of their
// deadlines.
//
// Memory: the log holds at most what the slowest subscriber lags, which max_lag bounds: policy
// disconnect and skip exactly, up to one turn's intake and one frame; policy block by holding()
// producers back.
//
// Thread safety: none; the loop thread.

#ifndef EVRELAY_RELAY_HUB_H_
#define EVRELAY_RELAY_HUB_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "config/config.h"
#include "event/loop.h"
#include "event/timer_event.h"
#include "fanout/broadcast_log.h"
#include "metrics/counters.h"
#include "relay/connection.h"
#include "relay/connection_table.h"
#include "util/intrusive_list.h"

namespace evrelay {

class Hub {
 public:
  // How long a closing connection may take to accept what was due (a drain has its own time), and
  // how long its peer may then take to end its side.
  static constexpr std::chrono::seconds kClosingTime{5};
  static constexpr std::chrono::seconds kLingerTime{2};

  // `config` and `counters` must outlive the hub; a reload changes `config` in place.
  Hub(Loop& loop, const Config& config, Counters& counters);
  Hub(const Hub&) = delete;
  Hub& operator=(const Hub&) = delete;
  ~Hub();

  // --- verbs ---

  // Relays `frames` events that stand in `wire` as canonical netstrings, none empty, with
  // `payload_bytes` of payload together, to all live subscribers.
  void RelayRun(std::string_view wire, std::uint32_t frames, std::uint64_t payload_bytes);

  // Relays one event, not empty. Returns the number of subscribers it was queued for.
  std::size_t Relay(std::string_view payload);

  // --- connections ---

  // Makes the connection live: it gets every event relayed from now on.
  Connection& Admit(std::unique_ptr<Connection> connection);

  // Ends a live connection in good order: what is due now will be sent, then comes EOF. A
  // connection that is closing already stays as it is.
  void BeginClose(Connection& connection, CloseReason reason);

  // The connection's peer is gone, for good: destroys it. A live one is closed by this for
  // `reason`.
  void OnGone(Connection& connection, CloseReason reason);

  // The socket of a blocked connection takes bytes again.
  void OnWritable(Connection& connection);

  // --- turns ---

  // Sends everything that is due; then deals with those that lag too much.
  void Flush();

  // Policy block: a live subscriber's lag has reached max_lag, so producers are not to be read.
  bool holding() const { return holding_; }

  // --- the end ---

  // Begins to close all live connections, for reason drain.
  void Drain();
  // Destroys all that are left; what they have not been sent is dropped{drain}.
  void CutAll();
  // Live, closing and lingering.
  std::size_t connections() const { return connections_; }

  // --- for status ---

  std::size_t live() const { return table_.size(); }
  std::size_t blocked() const { return blocked_count_; }
  // Bytes, of the live subscriber that lags most. Looks at all.
  std::uint64_t MaxLag();
  // Counts what those that are behind have been sent so far: Queued is exact then.
  void CountWritten();
  // Frames that are due and not yet counted as written or dropped. Looks at all.
  std::uint64_t Queued();
  const BroadcastLog& log() const { return log_; }

 private:
  using SendQueue = IntrusiveList<Connection, SendQueueTag>;
  using Clock = std::chrono::steady_clock;

  void MoveTo(Connection& connection, Connection::Queue queue);
  void Deliver(Connection& connection);
  void ApplySlowPolicy();
  Clock::time_point StallDeadline(const Connection& holder) const;

  // Live → closing: the conidx becomes free, the close is counted and logged.
  void EndLife(Connection& connection, CloseReason reason);
  void Cut(Connection& connection, CloseReason reason, DropReason drop);
  void DropUnsent(Connection& connection, DropReason reason);
  void Delete(Connection& connection);

  void ScheduleDeadline();
  void OnDeadline() noexcept;
  void OnStalled() noexcept;

  const Config& config_;
  Counters& counters_;
  BroadcastLog log_;
  ConnectionTable table_;
  SendQueue caught_up_;  // this and the next three own their members
  SendQueue due_;
  SendQueue blocked_;
  SendQueue lingering_;
  IntrusiveList<Connection, ClosingTag> closing_;
  std::size_t connections_ = 0;
  std::size_t blocked_count_ = 0;
  bool holding_ = false;
  Clock::time_point held_since_;  // while holding_
  // When those whose stall_timeout was over were last sent to, whatever their sockets said.
  Clock::time_point probed_at_{};
  TimerEvent deadline_;
  TimerEvent stalled_;
};

}  // namespace evrelay

#endif  // EVRELAY_RELAY_HUB_H_
