// What has happened since the start. Plain integers with one writer, the loop thread, counted where
// the thing happens; read by the control port on the same thread.
//
// Invariant (the books balance), whenever the loop is between two turns:
//   deliveries.due == deliveries.written + deliveries queued + sum(deliveries.dropped)
// where `due` grows by the number of subscribers for every event, and queued is what the
// subscribers' outboxes still hold. Likewise
//   messages.received == hook.runs[message-received] + messages.dropped_… + messages.unhandled
//   async.suspended == async.resumed + expired + drained + abandoned + requests that wait now

#ifndef EVRELAY_METRICS_COUNTERS_H_
#define EVRELAY_METRICS_COUNTERS_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "metrics/reasons.h"

namespace evrelay {

template <class Reason>
class ReasonCounts {
 public:
  std::uint64_t& operator[](Reason reason) { return counts_[static_cast<std::size_t>(reason)]; }
  std::uint64_t operator[](Reason reason) const {
    return counts_[static_cast<std::size_t>(reason)];
  }
  std::uint64_t total() const {
    std::uint64_t sum = 0;
    for (std::uint64_t n : counts_) sum += n;
    return sum;
  }

 private:
  std::array<std::uint64_t, static_cast<std::size_t>(Reason::kCount)> counts_{};
};

struct Counters {
  struct {
    std::uint64_t accepted = 0;          // connections let in
    ReasonCounts<RefuseReason> refused;  // turned away at accept
    ReasonCounts<CloseReason> closed;
  } subscribers, producers;

  // Handshakes of subscribers' connections; those that a drain cuts short are not counted.
  struct {
    std::uint64_t handshaking = 0;  // now
    std::uint64_t accepted = 0;     // let in; also counted in subscribers.accepted
    ReasonCounts<TlsFailure> failed;
  } tls;

  struct {
    std::uint64_t relayed = 0;  // events taken into the log, from data frames or requests
    std::uint64_t bytes = 0;    // their payload
    std::uint64_t denied = 0;   // data frames refused by producer.allow
  } events;

  struct {
    std::uint64_t due = 0;  // events times the subscribers each was for
    // Wholly handed to the kernel. Of a subscriber that is behind: counted when it has caught up,
    // or by Hub::CountWritten.
    std::uint64_t written = 0;
    ReasonCounts<DropReason> dropped;
  } deliveries;

  struct {
    std::uint64_t received = 0;  // frames (raw mode: chunks) from subscribers
    std::uint64_t bytes = 0;
    std::uint64_t unhandled = 0;            // now: on their way through a worker
    std::uint64_t discarded_bytes = 0;      // thrown away by bad_frame: discard
    std::uint64_t dropped_no_hook = 0;      // no script or no route is there to hear them
    std::uint64_t dropped_after_close = 0;  // a hook had closed their connection
  } messages;

  struct {
    ReasonCounts<HookEventKind> runs;  // for message-received: the messages that were handled
    ReasonCounts<HookOutcome> failed;  // error, timeout, memory
    struct {
      std::uint64_t relay = 0;
      std::uint64_t multicast = 0;
      std::uint64_t unicast = 0;
      std::uint64_t resume = 0;
      std::uint64_t reply = 0;
      std::uint64_t close = 0;
      std::uint64_t set_tag = 0;
    } actions;  // of verdicts that were applied
    // Replies, closes, tags, resumes whose connection or request had ended by then.
    std::uint64_t stale_actions = 0;
    std::uint64_t lost_actions = 0;  // for want of memory
  } hook;

  struct {
    ReasonCounts<Verb> accepted;      // answered otherwise than by an error
    ReasonCounts<ErrorCode> errors;   // `error CODE` answers given
    std::uint64_t undeliverable = 0;  // answers whose producer was gone
  } requests;

  // Suspended requests: each ends in one of the four ways.
  struct {
    std::uint64_t suspended = 0;
    std::uint64_t resumed = 0;
    std::uint64_t expired = 0;
    std::uint64_t drained = 0;    // evrelay was stopping
    std::uint64_t abandoned = 0;  // its producer was gone; also counted in requests.undeliverable
  } async;

  struct {
    std::uint64_t turns = 0;          // times the loop went round
    std::uint64_t sends = 0;          // sendmsg calls to subscribers
    std::uint64_t short_writes = 0;   // of these, those that did not take everything
    std::uint64_t holds = 0;          // times policy block stopped reading producers
    std::uint64_t accept_pauses = 0;  // times accept_rate stopped accepting subscribers
  } loop;
};

}  // namespace evrelay

#endif  // EVRELAY_METRICS_COUNTERS_H_
