#include "producer/producer.h"

#include <sys/socket.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <new>
#include <span>
#include <utility>

#include "logging/log.h"
#include "producer/producer_port.h"

namespace evrelay {

namespace {

constexpr std::string_view kLogger = "producer";

// How long answers may take to be read after the close began, and the peer to end its side.
constexpr std::chrono::seconds kClosingTime{5};

// A buffer of answers larger than this is given back when they have been sent.
constexpr std::size_t kKeptCapacity = 64 * 1024;

constexpr netstring::Limits kAnyFrame{.data = UINT32_MAX, .list = UINT32_MAX};

struct ErrorMeaning {
  ErrorCode code;
  CloseReason reason;
  std::string_view text;
};

ErrorMeaning MeaningOf(netstring::Error error) {
  switch (error) {
    case netstring::Error::kTooBig:
      return {ErrorCode::kTooBig, CloseReason::kTooBig, "the frame's SIZE is over max_event"};
    case netstring::Error::kBadType:
      return {ErrorCode::kBadType, CloseReason::kBadType,
              "the byte after the payload is neither ',' nor ']'"};
    case netstring::Error::kBadList:
      return {ErrorCode::kBadList, CloseReason::kBadList,
              "the list is not a sequence of netstrings"};
    case netstring::Error::kTruncated:
      return {ErrorCode::kTruncated, CloseReason::kTruncated, "the input ended inside a frame"};
    case netstring::Error::kBadSize:
    case netstring::Error::kNone:
      break;
  }
  return {ErrorCode::kBadSize, CloseReason::kBadSize,
          "a frame begins with its size: at most 32 decimal digits, below 4294967296, and a colon"};
}

}  // namespace

Producer::Producer(ProducerPort& port, UniqueFd fd)
    : port_(port),
      fd_(std::move(fd)),
      event_(port.loop_, fd_.get(), IoEvent::To<&Producer::OnReady>(this)),
      hangup_(port.hangups_, HangupEvent::To<&Producer::OnHangup>(this)),
      deadline_(port.loop_, TimerEvent::To<&Producer::OnDeadline>(this)),
      peer_(ReadPeerCredentials(fd_.get())) {
  UpdatePermissions();
  UpdateWatch();
}

Producer::~Producer() {
  port_.counters_.requests.undeliverable += UnsentAnswers() + suspended_.size();
  port_.counters_.async.abandoned += suspended_.size();
  for (const auto& [index, label] : suspended_) port_.hub_.suspended().End({index, label});
}

void Producer::UpdatePermissions() { permissions_ = Evaluate(port_.config_.producer.allow, peer_); }

bool Producer::MayHear() const {
  if (closing_) return !ended_;
  if (port_.draining_) return unsent() <= kMaxAnswers;
  return !port_.held_ && unsent() <= kPauseAnswers;
}

// A socket that takes more calls back at once: so what waits in rest_ is heard in the next turn.
void Producer::UpdateWatch() {
  const bool hears = MayHear();
  const bool read = hears && rest_.empty();
  const bool write = blocked_ || (hears && !rest_.empty());
  event_.Watch((read ? IoEvent::kRead : 0U) | (write ? IoEvent::kWrite : 0U));
  if (!hears) static_cast<ListHook<ReadableTag>&>(*this).Unlink();
}

void Producer::OnReady(unsigned ready) noexcept {
  if ((ready & IoEvent::kLost) != 0) {
    GiveUp();
    return;
  }
  if ((ready & IoEvent::kWrite) != 0) {
    blocked_ = false;
    port_.answering_.PushBack(*this);
    UpdateWatch();
  }
  const bool readable = (ready & IoEvent::kRead) != 0 || (!rest_.empty() && MayHear());
  // Read in the turn's intake, when it is this producer's turn. One that already waits keeps its
  // place.
  if (readable && !static_cast<ListHook<ReadableTag>&>(*this).linked()) {
    port_.newly_readable_.PushFront(*this);
  }
}

void Producer::GiveUp() {
  ended_ = true;
  gone_ = true;
  BeginClose(CloseReason::kNoMemory);
}

Producer::Read Producer::ReadSome(std::size_t max) try {
  if (!rest_.empty()) {
    const std::string rest = std::exchange(rest_, {});
    const std::size_t bytes = std::min(max, rest.size());
    OnChunk(std::string_view(rest).substr(0, bytes));
    if (!closing_) rest_.append(rest, bytes);
    return {bytes, MayHear()};
  }
  const std::span<char> room = port_.Room(reader_.held());
  const std::size_t wanted = std::min(max, room.size());
  const ssize_t n = recv(fd_.get(), room.data(), wanted, MSG_DONTWAIT);
  if (n < 0) {
    // An interrupted or failed read shows again in the next turn.
    if (errno == EAGAIN || errno == EINTR) return {};
    ended_ = true;
    gone_ = true;
    BeginClose(CloseReason::kReset);
    return {};
  }
  if (n == 0) {
    OnEnd();
    return {};
  }
  const auto bytes = static_cast<std::size_t>(n);
  if (!closing_) OnChunk({room.data(), bytes});
  return {bytes, bytes == wanted && MayHear()};
} catch (const std::bad_alloc&) {
  GiveUp();
  return {};
}

void Producer::OnEnd() {
  ended_ = true;
  if (!closing_ && reader_.Finish() != netstring::Error::kNone) {
    OnProtocolError(reader_.Finish());
  } else {
    BeginClose(CloseReason::kEof);
  }
}

void Producer::OnChunk(std::string_view chunk) {
  const netstring::Limits limits{
      .data = port_.config_.max_event,
      .list = std::int64_t{port_.config_.max_event} + std::int64_t{kListOverhead}};
  while (!closing_) {
    if (!MayHear()) {
      rest_ = chunk;
      return;
    }
    if (OnRelayRun(chunk)) continue;
    const FrameReader::Item item = reader_.NextRun(chunk, limits);
    switch (item.kind) {
      case FrameReader::Kind::kMore:
        return;
      case FrameReader::Kind::kRun:
        if (MayRelay(item.frames)) {
          port_.hub_.RelayRun(item.wire, item.frames, item.payload_bytes);
        }
        break;
      case FrameReader::Kind::kFrame:
        if (item.type == netstring::Type::kList) {
          OnRequest(item.payload);
        } else if (!item.payload.empty() && MayRelay(1)) {
          port_.hub_.Relay(item.payload);
        }
        break;
      case FrameReader::Kind::kError:
        OnProtocolError(item.error);
        break;
    }
  }
}

bool Producer::MayRelay(std::uint64_t events) {
  if (permissions_.Allows(Verb::kRelay)) return true;
  port_.counters_.events.denied += events;
  AnswerError(ErrorCode::kForbidden, "producer.allow denies relay to this peer");
  BeginClose(CloseReason::kForbidden);
  return false;
}

bool Producer::OnRelayRun(std::string_view& chunk) {
  // Within a frame that has begun nothing is a request, whatever it looks like.
  if (reader_.begun() || port_.draining_ || !permissions_.Allows(Verb::kRelay)) return false;
  if (!port_.config_.netstring_format) return false;
  AlikeFrames run = FindRelayRun(chunk, port_.config_.max_event);
  if (run.count == 0) return false;
  std::string answer;
  AppendOk(answer, port_.hub_.live());
  // As many as until their answers pause it.
  const std::size_t most = (kPauseAnswers - unsent()) / answer.size() + 1;
  run.count = static_cast<std::uint32_t>(std::min<std::size_t>(run.count, most));
  answers_.reserve(answers_.size() + run.count * answer.size());
  port_.hub_.Relay(run);
  for (std::uint32_t i = 0; i < run.count; ++i) answers_ += answer;
  port_.counters_.requests.accepted[Verb::kRelay] += run.count;
  port_.answering_.PushBack(*this);
  chunk.remove_prefix(run.count * run.stride);
  return true;
}

void Producer::OnRequest(std::string_view payload) {
  const Request request = port_.parser_.Parse(payload, port_.config_.max_event);
  if (request.error == ErrorCode::kBadList) {
    OnProtocolError(netstring::Error::kBadList);
    return;
  }
  if (port_.draining_) {
    AnswerError(ErrorCode::kDraining, "evrelay is stopping");
    return;
  }
  if (!request.ok()) {
    AnswerError(request.error, request.error_text);
    return;
  }
  if (!permissions_.Allows(request.verb)) {
    AnswerError(ErrorCode::kForbidden, "producer.allow denies this verb to this peer");
    return;
  }
  Answer(request);
  port_.answering_.PushBack(*this);
}

void Producer::Answer(const Request& request) {
  Hub& hub = port_.hub_;
  switch (request.verb) {
    case Verb::kRelay:
      AppendOk(answers_, hub.Relay(request.evdata));
      break;
    case Verb::kMulticast:
      AppendOk(answers_, hub.Multicast(request.evdata, request.etag));
      break;
    case Verb::kUnicast:
      if (hub.Unicast(request.evdata, request.etag) == 0) {
        AnswerError(ErrorCode::kNoSubscriber, "no subscriber has this tag");
        return;
      }
      AppendOk(answers_, 1);
      break;
    case Verb::kAsyncRelay:
    case Verb::kAsyncMulticast:
    case Verb::kAsyncUnicast: {
      const std::optional<SuspendedId> id = Suspend(request);
      if (!id) return;
      const std::string event = FillPlaceholders(request.evdata, *id);
      if (request.verb == Verb::kAsyncRelay) hub.Relay(event);
      if (request.verb == Verb::kAsyncMulticast) hub.Multicast(event, request.etag);
      if (request.verb == Verb::kAsyncUnicast) hub.Unicast(event, request.etag);
      break;
    }
    case Verb::kPing:
      AppendOk(answers_);
      break;
    case Verb::kCount:
      assert(false);
  }
  ++port_.counters_.requests.accepted[request.verb];
}

std::optional<SuspendedId> Producer::Suspend(const Request& request) {
  Hub& hub = port_.hub_;
  const AsyncConfig& async = port_.config_.async;
  if (request.verb == Verb::kAsyncRelay ? !hub.AnySubscriber() : !hub.AnySubscriber(request.etag)) {
    AnswerError(ErrorCode::kNoSubscriber, request.verb == Verb::kAsyncRelay
                                              ? "no subscriber is there to be asked"
                                              : "no subscriber has this tag");
    return std::nullopt;
  }
  if (hub.suspended().size() >= async.max_suspended) {
    AnswerError(ErrorCode::kOverloaded,
                "as many requests are suspended as async.max_suspended "
                "allows");
    return std::nullopt;
  }
  if (suspended_.size() >= std::max(async.max_suspended / 4, std::uint32_t{1})) {
    AnswerError(ErrorCode::kOverloaded,
                "this producer has a quarter of async.max_suspended, which is its share");
    return std::nullopt;
  }
  const SuspendedId id = hub.Suspend(*this, request.timeout.value_or(async.timeout));
  try {
    suspended_.emplace(id.index, id.label);
  } catch (const std::bad_alloc&) {
    hub.suspended().End(id);
    ++port_.counters_.async.abandoned;
    ++port_.counters_.requests.undeliverable;
    throw;
  }
  AppendSuspended(answers_, id);
  return id;
}

template <class Append>
void Producer::AppendAnswer(Append append) {
  try {
    append();
  } catch (const std::bad_alloc&) {
    ++port_.counters_.requests.undeliverable;
    GiveUp();
  }
}

void Producer::OnResumed(SuspendedId request, std::string_view data) noexcept {
  AppendAnswer([&] { AppendResumed(answers_, request, data); });
  OnFinalAnswer(request);
}

void Producer::OnExpired(SuspendedId request) noexcept {
  AppendAnswer([&] { AppendExpired(answers_, request); });
  OnFinalAnswer(request);
}

void Producer::EndSuspended() {
  while (!suspended_.empty()) {
    const SuspendedId request{suspended_.begin()->first, suspended_.begin()->second};
    port_.hub_.suspended().End(request);
    ++port_.counters_.async.drained;
    ++port_.counters_.requests.errors[ErrorCode::kDraining];
    AppendAnswer([&] { AppendDraining(answers_, request); });
    OnFinalAnswer(request);
  }
}

void Producer::OnFinalAnswer(SuspendedId request) {
  suspended_.erase(request.index);
  if (closing_ && suspended_.empty()) deadline_.Schedule(kClosingTime);
  port_.answering_.PushBack(*this);
}

void Producer::OnProtocolError(netstring::Error error) {
  const ErrorMeaning meaning = MeaningOf(error);
  AnswerError(meaning.code, meaning.text);
  BeginClose(meaning.reason);
}

void Producer::AnswerError(ErrorCode code, std::string_view text) {
  AppendError(answers_, code, text);
  ++port_.counters_.requests.errors[code];
  port_.answering_.PushBack(*this);
}

bool Producer::SendAnswers() {
  if (gone_) return false;
  while (unsent() != 0) {
    const ssize_t n =
        send(fd_.get(), answers_.data() + answers_sent_, unsent(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM)) break;
    if (n < 0) {
      // The peer reads no more, but what it wrote before is still to be heard.
      if (closing_) return false;
      port_.counters_.requests.undeliverable += UnsentAnswers();
      answers_.clear();
      answers_sent_ = 0;
      break;
    }
    answers_sent_ += static_cast<std::size_t>(n);
    if (closing_ && suspended_.empty()) deadline_.Schedule(kClosingTime);
  }
  blocked_ = unsent() != 0;
  if (unsent() > kMaxAnswers && !port_.draining_) {
    BeginClose(CloseReason::kSlowProducer);
    return false;
  }
  if (!blocked_ || answers_sent_ > kPauseAnswers) ForgetSentAnswers();
  if (!blocked_ && closing_ && suspended_.empty()) {
    if (ended_ || port_.draining_) return false;
    // Unread input would turn the close into a reset: it is read and thrown away instead.
    shutdown(fd_.get(), SHUT_WR);
  }
  UpdateWatch();
  return true;
}

std::size_t Producer::FirstUnsentAnswer() const {
  if (unsent() == 0) return answers_.size();
  const std::string_view all = answers_;
  std::size_t at = 0;
  while (at < answers_sent_) {
    const std::size_t size = netstring::Decode(all.substr(at), kAnyFrame).consumed;
    if (at + size > answers_sent_) break;
    at += size;
  }
  return at;
}

void Producer::ForgetSentAnswers() {
  const std::size_t whole = FirstUnsentAnswer();
  answers_.erase(0, whole);
  answers_sent_ -= whole;
  if (answers_.empty() && answers_.capacity() > kKeptCapacity) std::string().swap(answers_);
}

void Producer::BeginClose(CloseReason reason) {
  if (!closing_) {
    closing_ = true;
    ++port_.counters_.producers.closed[reason];
    if (reason == CloseReason::kEof || reason == CloseReason::kReset ||
        reason == CloseReason::kDrain) {
      LogDebug(kLogger, "{} ends: {}", Peer(), Name(reason));
    } else {
      static LogLimit limit;
      LogWarnLimited(limit, kLogger, "{} is closed: {}", Peer(), Name(reason));
    }
    rest_.clear();
    if (suspended_.empty()) deadline_.Schedule(kClosingTime);
  }
  if (ended_ && !suspended_.empty()) hangup_.Watch(fd_.get());
  UpdateWatch();
  port_.answering_.PushBack(*this);
}

std::uint64_t Producer::UnsentAnswers() const {
  const std::string_view all = answers_;
  std::uint64_t count = 0;
  for (std::size_t at = FirstUnsentAnswer(); at < all.size(); ++count) {
    at += netstring::Decode(all.substr(at), kAnyFrame).consumed;
  }
  return count;
}

void Producer::OnDeadline() noexcept { port_.Destroy(*this); }

void Producer::OnHangup() noexcept { port_.Destroy(*this); }

std::string Producer::Peer() const noexcept {
  if (!peer_) return "a producer";
  try {
    return "producer with pid " + std::to_string(peer_->pid) + " of uid " +
           std::to_string(peer_->uid);
  } catch (const std::bad_alloc&) {
    return "a producer";
  }
}

}  // namespace evrelay
