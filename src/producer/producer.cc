#include "producer/producer.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
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
      deadline_(port.loop_, TimerEvent::To<&Producer::OnDeadline>(this)),
      peer_(ReadPeerCredentials(fd_.get())) {
  UpdatePermissions();
  UpdateWatch();
}

Producer::~Producer() { port_.counters_.requests.undeliverable += UnsentAnswers(); }

void Producer::UpdatePermissions() { permissions_ = Evaluate(port_.config_.producer.allow, peer_); }

void Producer::UpdateWatch() {
  const bool read = closing_ ? !ended_ : !port_.held_ && unsent() <= kPauseAnswers;
  event_.Watch((read ? IoEvent::kRead : 0U) | (blocked_ ? IoEvent::kWrite : 0U));
  if (!read) static_cast<ListHook<ReadableTag>&>(*this).Unlink();
}

void Producer::OnReady(unsigned ready) noexcept {
  if ((ready & IoEvent::kWrite) != 0) {
    blocked_ = false;
    port_.answering_.PushBack(*this);
    UpdateWatch();
  }
  // Read in the turn's intake, when it is this producer's turn. One that already waits keeps its
  // place.
  if ((ready & IoEvent::kRead) != 0 && !static_cast<ListHook<ReadableTag>&>(*this).linked()) {
    port_.newly_readable_.PushFront(*this);
  }
}

Producer::Read Producer::ReadSome(std::string& scratch, std::size_t max) {
  const ssize_t n = recv(fd_.get(), scratch.data(), std::min(max, scratch.size()), MSG_DONTWAIT);
  if (n < 0) {
    // An interrupted or failed read shows again in the next turn.
    if (errno == EAGAIN || errno == EINTR) return {};
    ended_ = true;
    BeginClose(CloseReason::kReset);
    return {};
  }
  if (n == 0) {
    OnEnd();
    return {};
  }
  const auto bytes = static_cast<std::size_t>(n);
  if (!closing_) OnChunk({scratch.data(), bytes});
  return {bytes, bytes == std::min(max, scratch.size())};
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
  switch (request.verb) {
    case Verb::kRelay:
      ++port_.counters_.requests.relay;
      AppendOk(answers_, port_.hub_.Relay(request.evdata));
      break;
    case Verb::kPing:
      ++port_.counters_.requests.ping;
      AppendOk(answers_);
      break;
  }
  port_.answering_.PushBack(*this);
}

void Producer::OnProtocolError(netstring::Error error) {
  const ErrorMeaning meaning = MeaningOf(error);
  AnswerError(meaning.code, meaning.text);
  BeginClose(meaning.reason);
}

void Producer::AnswerError(ErrorCode code, std::string_view text) {
  ++port_.counters_.requests.errors[code];
  AppendError(answers_, code, text);
  port_.answering_.PushBack(*this);
}

bool Producer::SendAnswers() {
  while (unsent() != 0) {
    const ssize_t n =
        send(fd_.get(), answers_.data() + answers_sent_, unsent(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM)) break;
    if (n < 0) {
      BeginClose(CloseReason::kReset);
      return false;
    }
    answers_sent_ += static_cast<std::size_t>(n);
    if (closing_) deadline_.Schedule(kClosingTime);
  }
  blocked_ = unsent() != 0;
  if (unsent() > kMaxAnswers) {
    BeginClose(CloseReason::kSlowProducer);
    return false;
  }
  if (!blocked_ || answers_sent_ > kPauseAnswers) ForgetSentAnswers();
  if (!blocked_ && closing_) {
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
    deadline_.Schedule(kClosingTime);
  }
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

std::string Producer::Peer() const {
  if (!peer_) return "a producer";
  return "producer with pid " + std::to_string(peer_->pid) + " of uid " +
         std::to_string(peer_->uid);
}

}  // namespace evrelay
