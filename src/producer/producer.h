// Producer: one connection of the producer port. Data frames become events, list frames become
// requests, each answered by one list frame, in order.
//
// Life: open; closing once it has ended its side, broken the protocol or the relay drains: then its
// answers are still written, those to its suspended requests included, its input is thrown away
// until it ends its side too, and it is destroyed. A request that is still suspended when it is
// destroyed ends without an answer.
//
// Memory: unread answers above kPauseAnswers pause its requests, so they are passed by one answer
// at most; final answers of suspended requests add to them, and above kMaxAnswers it is destroyed.
// While the relay drains, its last requests and those suspended are answered once each, so requests
// end at kMaxAnswers and nothing is destroyed.
// One unfinished frame, one read that waits for answers to be read. Thread safety: none; the loop
// thread.

#ifndef EVRELAY_PRODUCER_PRODUCER_H_
#define EVRELAY_PRODUCER_PRODUCER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "codec/framing.h"
#include "codec/request.h"
#include "config/config.h"
#include "event/hangup_event.h"
#include "event/io_event.h"
#include "event/loop.h"
#include "event/timer_event.h"
#include "metrics/counters.h"
#include "net/peer_credentials.h"
#include "producer/allow.h"
#include "relay/hub.h"
#include "relay/suspended_table.h"
#include "util/intrusive_list.h"
#include "util/unique_fd.h"

namespace evrelay {

class ProducerPort;
struct AllProducersTag;
struct ReadableTag;
struct AnsweringTag;

class Producer final : public ListHook<AllProducersTag>,
                       public ListHook<ReadableTag>,
                       public ListHook<AnsweringTag>,
                       private Requester {
 public:
  static constexpr std::size_t kPauseAnswers = 1024 * 1024;
  static constexpr std::size_t kMaxAnswers = 4 * 1024 * 1024;

  Producer(ProducerPort& port, UniqueFd fd);
  ~Producer();

  // Reads once, at most `max` bytes, and does what they say.
  struct Read {
    std::size_t bytes = 0;
    bool more = false;  // there may be more to read at once
  };
  Read ReadSome(std::size_t max);

  // Sends the answers that have come up. False: the producer is to be destroyed.
  bool SendAnswers();

  // Closing begins: nothing that still arrives is heard.
  void BeginClose(CloseReason reason);

  // Answers its suspended requests: the relay drains.
  void EndSuspended();

  // Something outside has changed that decides whether it is read.
  void UpdateWatch();
  // producer.allow has changed.
  void UpdatePermissions();

  bool closing() const { return closing_; }

 private:
  void OnReady(unsigned ready) noexcept;
  void OnChunk(std::string_view chunk);
  // Does what the relay requests at the start of `chunk` ask, as long as they are alike, and
  // removes them. False: there is none to be treated so.
  bool OnRelayRun(std::string_view& chunk);
  void OnRequest(std::string_view payload);
  void Answer(const Request& request);
  // Answers `suspended …`, or why not. None: not suspended.
  std::optional<SuspendedId> Suspend(const Request& request);
  void OnResumed(SuspendedId request, std::string_view data) noexcept override;
  void OnExpired(SuspendedId request) noexcept override;
  // There was no memory for something of it: it is destroyed at the end of the turn.
  void GiveUp();
  // Calls `append`, which appends an answer; without memory for that the producer is given up.
  template <class Append>
  void AppendAnswer(Append append);
  // A final answer has been appended.
  void OnFinalAnswer(SuspendedId request);
  // False: producer.allow denies events to this peer, and it is being closed.
  bool MayRelay(std::uint64_t events);
  void OnProtocolError(netstring::Error error);
  void AnswerError(ErrorCode code, std::string_view text);
  void OnEnd();
  std::size_t unsent() const { return answers_.size() - answers_sent_; }
  // Where in answers_ the first answer stands that has not been sent wholly.
  std::size_t FirstUnsentAnswer() const;
  void ForgetSentAnswers();
  std::uint64_t UnsentAnswers() const;
  // Its requests may be heard; those in rest_ come before what is to be read.
  bool MayHear() const;
  void OnDeadline() noexcept;
  void OnHangup() noexcept;
  std::string Peer() const noexcept;

  ProducerPort& port_;
  UniqueFd fd_;
  IoEvent event_;
  HangupEvent hangup_;   // closing, when no more is read
  TimerEvent deadline_;  // closing, with nothing suspended: when patience ends
  std::optional<PeerCredentials> peer_;
  Permissions permissions_;
  FrameReader reader_;
  std::string rest_;  // was read, and waits until answers have been read
  std::unordered_map<std::uint32_t, std::uint32_t> suspended_;  // index → label

  std::string answers_;           // whole list frames
  std::size_t answers_sent_ = 0;  // bytes of answers_
  bool blocked_ = false;          // the socket takes no more answers
  bool ended_ = false;            // its EOF has been read
  bool gone_ = false;             // the connection broke
  bool closing_ = false;
};

}  // namespace evrelay

#endif  // EVRELAY_PRODUCER_PRODUCER_H_
