// Producer: one connection of the producer port. Data frames become events, list frames become
// requests, each answered by one list frame, in order.
//
// Life: open; closing once it has ended its side, broken the protocol or the relay drains: then its
// answers are still written, its input is thrown away until it ends its side too, and it is
// destroyed. Memory: unread answers above kPauseAnswers pause its reading, above kMaxAnswers it is
// destroyed; one unfinished frame. Thread safety: none; the loop thread.

#ifndef EVRELAY_PRODUCER_PRODUCER_H_
#define EVRELAY_PRODUCER_PRODUCER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "codec/framing.h"
#include "codec/request.h"
#include "config/config.h"
#include "event/io_event.h"
#include "event/loop.h"
#include "event/timer_event.h"
#include "metrics/counters.h"
#include "net/peer_credentials.h"
#include "producer/allow.h"
#include "relay/hub.h"
#include "util/intrusive_list.h"
#include "util/unique_fd.h"

namespace evrelay {

class ProducerPort;
struct AllProducersTag;
struct ReadableTag;
struct AnsweringTag;

class Producer : public ListHook<AllProducersTag>,
                 public ListHook<ReadableTag>,
                 public ListHook<AnsweringTag> {
 public:
  static constexpr std::size_t kPauseAnswers = 1024 * 1024;
  static constexpr std::size_t kMaxAnswers = 4 * 1024 * 1024;

  Producer(ProducerPort& port, UniqueFd fd);
  ~Producer();

  // Reads once, at most `max` bytes into `scratch`, and does what they say.
  struct Read {
    std::size_t bytes = 0;
    bool more = false;  // there may be more to read at once
  };
  Read ReadSome(std::string& scratch, std::size_t max);

  // Sends the answers that have come up. False: the producer is to be destroyed.
  bool SendAnswers();

  // Closing begins: nothing that still arrives is heard.
  void BeginClose(CloseReason reason);

  // Something outside has changed that decides whether it is read.
  void UpdateWatch();
  // producer.allow has changed.
  void UpdatePermissions();

  bool closing() const { return closing_; }

 private:
  void OnReady(unsigned ready) noexcept;
  void OnChunk(std::string_view chunk);
  void OnRequest(std::string_view payload);
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
  void OnDeadline() noexcept;
  std::string Peer() const;

  ProducerPort& port_;
  UniqueFd fd_;
  IoEvent event_;
  TimerEvent deadline_;  // closing: when patience ends
  std::optional<PeerCredentials> peer_;
  Permissions permissions_;
  FrameReader reader_;
  std::string answers_;           // whole list frames
  std::size_t answers_sent_ = 0;  // bytes of answers_
  bool blocked_ = false;          // the socket takes no more answers
  bool ended_ = false;            // its EOF has been read
  bool closing_ = false;
};

}  // namespace evrelay

#endif  // EVRELAY_PRODUCER_PRODUCER_H_
