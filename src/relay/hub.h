// Hub: where every event passes. Its methods are the verbs; producers call them, and the commands
// of the workers are carried out by them.
//
// An event is appended to the log and touches no subscriber. Once a turn of the loop, Flush sends
// each subscriber everything due to it. So k events of a turn share one send, a single event leaves
// at once, and nobody who is not blocked ever lags.
//
// Every connection is in exactly one queue:
//   admitting  waits for the verdict on its connection-new, in the order of their deadlines
//   caught up  has been sent everything up to the log's mark; sent to when there are new events
//   due        has something of its own: sent to in the next flush
//   blocked    its socket is full; waits for OnWritable
//   lingering  closed on our side, waits for the peer's end
// It may be in one of these besides:
//   closing    has frames still due, and a deadline for them, which is the order
//   unacked    its peer may not have acknowledged all that it was sent
//
// Memory: the log holds at most what the slowest subscriber lags, which max_lag bounds: policy
// disconnect and skip exactly, up to one turn's intake and one frame (of hooks: one verdict);
// policy block by holding() producers back, and hooks' frames by kHookAllowance beyond.
//
// The verbs, Suspend and Add throw std::bad_alloc when there is no memory for what they are to do;
// then it has not been done. To end a connection takes none, but for the word to the script,
// without which evrelay ends.
//
// Thread safety: none; the loop thread.

#ifndef EVRELAY_RELAY_HUB_H_
#define EVRELAY_RELAY_HUB_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "codec/frame.h"
#include "config/config.h"
#include "event/loop.h"
#include "event/timer_event.h"
#include "fanout/broadcast_log.h"
#include "metrics/counters.h"
#include "relay/command.h"
#include "relay/connection.h"
#include "relay/connection_table.h"
#include "relay/suspended_table.h"
#include "relay/tag_index.h"
#include "util/intrusive_list.h"

namespace evrelay {

class Hub {
 public:
  // How long the verdict on a connection-new may take.
  static constexpr std::chrono::seconds kAdmissionTime{10};
  // How long a closing connection may take to accept what was due (a drain has its own time), and
  // how long its peer may then take to end its side.
  static constexpr std::chrono::seconds kClosingTime{5};
  static constexpr std::chrono::seconds kLingerTime{2};
  // How often those who have something to acknowledge are looked at, and that only so many are in
  // so long a time.
  static constexpr std::chrono::seconds kAckCheckInterval{4};
  static constexpr std::size_t kAckChecks = 64;
  static constexpr std::chrono::milliseconds kAckCheckPause{1};
  // What is taken in one turn of the loop from all producers together, and from all workers, in
  // bytes; the frame or verdict that crosses the line is the last.
  static constexpr std::size_t kTurnIntake = 256 * 1024;
  // Policy block does not hold hooks back: so far beyond max_lag may their frames take a laggard.
  static constexpr std::uint64_t kHookAllowance = 4 * kMiB;

  // `config` and `counters` must outlive the hub; a reload changes `config` in place.
  Hub(Loop& loop, const Config& config, Counters& counters);
  Hub(const Hub&) = delete;
  Hub& operator=(const Hub&) = delete;
  ~Hub();

  // --- verbs ---

  // Where to receive what is to be relayed in this turn: as BroadcastLog::Room.
  std::span<char> Room(std::size_t size) { return log_.Room(size); }

  // Relays `frames` events that stand in `wire` as canonical netstrings, none empty, with
  // `payload_bytes` of payload together, to all live subscribers.
  void RelayRun(std::string_view wire, std::uint32_t frames, std::uint64_t payload_bytes);

  // Relays one event, not empty. Returns the number of subscribers it was queued for.
  std::size_t Relay(std::string_view payload);
  // The same for several, each of which is queued for as many. With netstrings only.
  std::size_t Relay(const AlikeFrames& run);

  // One event, not empty, for those who have the tag, or for the lowest conidx of them. Returns the
  // number of subscribers it was queued for.
  std::size_t Multicast(std::string_view payload, std::string_view tag);
  std::size_t Unicast(std::string_view payload, std::string_view tag);

  // Whether Relay, or Multicast and Unicast with this tag, would reach anybody.
  bool AnySubscriber() const { return live_ != 0; }
  bool AnySubscriber(std::string_view tag) const { return tags_.Find(tag) != nullptr; }

  // Begins to wait for a hook to resume a request; the requester hears of the end, unless it Ends
  // the request itself.
  SuspendedId Suspend(Requester& requester, std::chrono::milliseconds timeout);
  // Also what hooks claim from.
  SuspendedTable& suspended() { return suspended_; }

  // Carries out what a worker says, wholly: no other event comes between its actions. Returns
  // the bytes of direct frames' places that this took: a multicast has one for each member.
  std::size_t Apply(const Command& command);

  // --- connections ---

  // Lets a connection in: it gets every event relayed from now on. When a script is to decide, it
  // is admitting until that has happened.
  Connection& Add(std::unique_ptr<Connection> connection);

  // The connection's peer has ended its side, or is not to be listened to any more: closes it in
  // good order when its connection-closed has run, at once when there is none to run.
  void End(Connection& connection, CloseReason reason) noexcept;

  // The connection's peer is gone, for good: destroys it. A live one is closed by this for
  // `reason`.
  void OnGone(Connection& connection, CloseReason reason) noexcept;

  // The socket of a blocked connection takes bytes again.
  void OnWritable(Connection& connection);

  // --- for the operator ---

  // The connection with the lowest conidx from this one on; null: there is none. A closing
  // connection whose connection-closed has run has no conidx any more.
  const Connection* FirstFrom(std::uint32_t conidx) const { return table_.FirstFrom(conidx); }
  std::string_view TagOf(const Connection& connection) const {
    return tags_.tag_of(connection.id_.conidx);
  }
  // Bytes that stand between it and the end of what is for it.
  std::uint64_t LagOf(const Connection& connection) const;

  // Closes the connection in good order, as the script can; one that is still to be admitted is
  // refused.
  enum class CloseResult : std::uint8_t {
    kBegun,
    kNoConnection,  // nobody has that conidx
    kClosing,       // its close has begun before
  };
  CloseResult Close(std::uint32_t conidx);

  // --- turns ---

  // Sends everything that is due; then deals with those that lag too much.
  void Flush();

  // Policy block: a live subscriber's lag has reached max_lag, so producers are not to be read.
  bool holding() const { return holding_; }

  // --- the end ---

  // Begins to end all connections, for reason drain.
  void Drain() noexcept;
  // Destroys all that are left; what they have not been sent is dropped{drain}.
  void CutAll() noexcept;
  // Live, closing and lingering.
  std::size_t connections() const { return connections_; }
  // And those that are gone but hold their conidx until connection-closed has run: what max_clients
  // bounds.
  std::size_t places() const { return connections_ + table_.detached(); }

  // --- for status ---

  // That events are for, those being admitted included.
  std::size_t live() const { return live_; }
  std::size_t admitting() const { return admitting_count_; }
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
  using WatchList = IntrusiveList<Connection, WatchTag>;
  using Clock = std::chrono::steady_clock;

  void MoveTo(Connection& connection, Connection::Queue queue);
  void Deliver(Connection& connection);
  void AwaitAck(Connection& connection);
  Frame Encode(std::string_view payload) const;
  // False: there was no memory for it; it is dropped{no-memory}.
  bool Push(Connection& connection, Frame frame);

  void Decide(Connection& connection, const Command& command);
  void Admit(Connection& connection) noexcept;
  void Refuse(Connection& connection, CloseReason reason) noexcept;
  void DropShare(Connection& connection) noexcept;
  void SetTag(Connection& connection, std::string_view tag);
  void Execute(ConnectionId id, const Action& action);
  void CountCommand(const Command& command);
  void Resume(const action::Resume& resume);
  void ScheduleExpiry();
  void OnExpiry() noexcept;
  void AnnounceEnd(Connection& connection, CloseReason reason) noexcept;
  // Ends a live connection in good order: what is due now will be sent, then comes EOF.
  void BeginClose(Connection& connection, CloseReason reason) noexcept;
  // What a lag has made of a subscriber.
  enum class Lagging : std::uint8_t { kStays, kHolds, kGone };
  void ApplySlowPolicy();
  Lagging ApplySlowPolicy(Connection& laggard);
  bool SomeoneMayLag() const;
  void CutUnadmitted();
  std::uint64_t HookAllowance() const;
  Clock::time_point StallDeadline(const Connection& holder) const;

  // To closing: the close is announced, counted and logged.
  void EndLife(Connection& connection, CloseReason reason) noexcept;
  void Cut(Connection& connection, CloseReason reason, DropReason drop) noexcept;
  void DropUnsent(Connection& connection, DropReason reason) noexcept;
  void Delete(Connection& connection) noexcept;

  void ScheduleDeadline();
  void OnDeadline() noexcept;
  void OnStalled() noexcept;
  void OnAckCheck() noexcept;

  const Config& config_;
  Counters& counters_;
  BroadcastLog log_;
  ConnectionTable table_;
  TagIndex tags_;
  SuspendedTable suspended_;
  SendQueue admitting_;  // this and the next four own their members
  SendQueue caught_up_;
  SendQueue due_;
  SendQueue blocked_;
  SendQueue lingering_;
  WatchList closing_;
  WatchList unacked_;                 // whose turn is in the next round
  WatchList ack_round_;               // whose turn is still to come in this one
  Clock::time_point ack_checked_at_;  // valid while a round lasts
  std::size_t connections_ = 0;
  std::size_t live_ = 0;
  std::size_t admitting_count_ = 0;
  std::size_t blocked_count_ = 0;
  std::uint64_t pushed_ = 0;        // direct frames, ever
  std::uint64_t direct_bound_ = 0;  // no subscriber has more bytes of direct frames queued
  bool holding_ = false;
  Clock::time_point held_since_;  // while holding_
  // When those whose stall_timeout was over were last sent to, whatever their sockets said.
  Clock::time_point probed_at_{};
  TimerEvent deadline_;
  TimerEvent stalled_;
  TimerEvent ack_check_;
  TimerEvent expiry_;  // when it is scheduled, expiry_at_ says for when
  Clock::time_point expiry_at_;
};

}  // namespace evrelay

#endif  // EVRELAY_RELAY_HUB_H_
