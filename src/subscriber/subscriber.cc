#include "subscriber/subscriber.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <new>
#include <utility>

#include "logging/log.h"
#include "net/dead_peer.h"
#include "subscriber/for_log.h"

namespace evrelay {

namespace {

CloseReason ReasonOf(netstring::Error error) {
  switch (error) {
    case netstring::Error::kBadSize:
      return CloseReason::kBadSize;
    case netstring::Error::kTooBig:
      return CloseReason::kTooBig;
    case netstring::Error::kBadType:
      return CloseReason::kBadType;
    case netstring::Error::kBadList:
      return CloseReason::kBadList;
    case netstring::Error::kTruncated:
      return CloseReason::kTruncated;
    case netstring::Error::kNone:
      break;
  }
  return CloseReason::kEof;
}

CloseReason ReasonOf(const Transport::Received& broken) {
  if (broken.error == ENOMEM) return CloseReason::kNoMemory;
  return IsDeadPeerError(broken.error) ? CloseReason::kDeadPeer : CloseReason::kReset;
}

Connection::SendResult ResultOf(const Transport::Sent& broken) {
  if (broken.error == ENOMEM) return Connection::SendResult::kStarved;
  return IsDeadPeerError(broken.error) ? Connection::SendResult::kDead
                                       : Connection::SendResult::kBroken;
}

}  // namespace

Subscriber::Subscriber(SubscriberContext& context, std::unique_ptr<Transport> transport,
                       const SocketAddress& peer, PeerCounts::Place place)
    : context_(context),
      place_(std::move(place)),
      transport_(std::move(transport)),
      event_(context.loop, transport_->fd(), IoEvent::To<&Subscriber::OnReady>(this)),
      peer_(peer) {}

Origin Subscriber::origin() const {
  return {id(), peer_.host(), peer_.port(), transport_->peer_name()};
}

bool Subscriber::AnnounceNew() {
  if (!context_.workers.active()) return false;
  context_.workers.ConnectionNew(origin());
  announced_ = true;
  return context_.workers.admits();
}

bool Subscriber::AnnounceClosed(CloseReason reason) noexcept {
  if (!announced_) return false;
  try {
    context_.workers.ConnectionClosed(origin(), reason);
  } catch (const std::bad_alloc&) {
    ++context_.counters.hook.failed[HookOutcome::kMemory];
    return false;
  }
  return true;
}

Connection::Sent Subscriber::Send(BroadcastLog& log) noexcept {
  // Enough for max_lag's default in one piece a segment; more goes with the next round.
  std::array<iovec, 32> pieces;
  std::size_t total = 0;
  while (true) {
    const std::size_t count = outbox().Gather(log, pieces.data(), pieces.size());
    std::size_t due = 0;
    for (std::size_t i = 0; i < count; ++i) due += pieces[i].iov_len;
    std::size_t bytes = 0;
    if (due != 0) {
      ++context_.counters.loop.sends;
      const Transport::Sent sent = transport_->Send(pieces.data(), count);
      if (sent.broken) return {ResultOf(sent), total};
      bytes = sent.bytes;
      total += sent.moved;
    }
    const Outbox::Consumed consumed = outbox().Consume(log, bytes);
    context_.counters.deliveries.written += consumed.written;
    if (consumed.drained) {
      event_.Remove(IoEvent::kWrite);
      return {SendResult::kDrained, total};
    }
    if (bytes < due) {
      ++context_.counters.loop.short_writes;
      event_.Add(IoEvent::kWrite);
      return {SendResult::kBlocked, total};
    }
  }
}

void Subscriber::StartReading() noexcept {
  reading_ = true;
  WatchInput();
}

void Subscriber::StopReading() noexcept {
  reading_ = false;
  WatchInput();
}

bool Subscriber::Reads() const {
  const bool full = unhandled_ > kMaxUnhandled || unhandled_bytes_ > kMaxUnhandledBytes;
  return reading_ && !full;
}

void Subscriber::WatchInput() {
  if ((lingering_ && !ended_) || Reads()) {
    event_.Add(IoEvent::kRead);
    if (transport_->holds_input()) event_.Feed(IoEvent::kRead);
  } else {
    event_.Remove(IoEvent::kRead);
  }
  TimeFrame();
}

void Subscriber::TimeFrame() {
  if (!reader_.begun() || !Reads()) {
    StopTime();
  } else if (!timed()) {
    context_.frame_timer.Begin(*this);
  }
}

void Subscriber::OnHandled(std::uint32_t messages, std::uint64_t bytes) noexcept {
  unhandled_ -= messages;
  unhandled_bytes_ -= bytes;
  WatchInput();
}

bool Subscriber::Linger() noexcept {
  const bool delivered = Delivered();
  const Transport::Ended ended = transport_->EndSending();
  if (ended == Transport::Ended::kBroken || (ended_ && ended == Transport::Ended::kDone)) {
    return false;
  }
  // What a peer says to a closed socket is answered by a reset, which takes along what it has not
  // received yet. One that only listens and has it all need not be waited for.
  char byte;
  if (ended == Transport::Ended::kDone && delivered && !talked_ &&
      recv(event_.fd(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0) {
    return false;
  }
  lingering_ = true;
  event_.Watch((ended_ ? 0 : IoEvent::kRead) |
               (ended == Transport::Ended::kAgain ? IoEvent::kWrite : 0));
  if (transport_->holds_input()) event_.Feed(IoEvent::kRead);
  return true;
}

void Subscriber::OnLastWords() {
  if (transport_->EndSending() == Transport::Ended::kAgain) return;
  event_.Remove(IoEvent::kWrite);
  if (ended_) context_.hub.OnGone(*this, CloseReason::kEof);
}

bool Subscriber::Delivered() const noexcept {
  int bytes = 0;
  return ioctl(event_.fd(), SIOCOUTQ, &bytes) != 0 || bytes == 0;
}

bool Subscriber::Unreachable() const noexcept { return IsDeadPeer(event_.fd(), kAckTime); }

std::string Subscriber::Peer() const noexcept { return ForLog(peer_); }

void Subscriber::Reset() noexcept {
  const linger now{.l_onoff = 1, .l_linger = 0};
  setsockopt(event_.fd(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

void Subscriber::OnReady(unsigned ready) noexcept {
  if ((ready & IoEvent::kLost) != 0) {
    context_.hub.OnGone(*this, CloseReason::kNoMemory);
    return;
  }
  if ((ready & IoEvent::kRead) != 0 && OnReadable() == After::kGone) return;
  if ((ready & IoEvent::kWrite) == 0) return;
  if (lingering_) {
    OnLastWords();
  } else {
    context_.hub.OnWritable(*this);
  }
}

Subscriber::After Subscriber::OnReadable() {
  std::string& scratch = context_.scratch;
  const Transport::Received received = transport_->Receive(scratch.data(), scratch.size());
  switch (received.status) {
    case Transport::Status::kAgain:
      return After::kNothing;
    case Transport::Status::kBroken:
      context_.hub.OnGone(*this, ReasonOf(received));
      return After::kGone;
    case Transport::Status::kEnd:
      ended_ = true;
      if (lingering_ && (event_.watched() & IoEvent::kWrite) != 0) {
        event_.Remove(IoEvent::kRead);  // OnLastWords goes on
        return After::kRead;
      }
      if (lingering_) {
        context_.hub.OnGone(*this, CloseReason::kEof);
        return After::kGone;
      }
      context_.hub.End(*this, ReasonOf(reader_.Finish()));
      return After::kRead;
    case Transport::Status::kSome:
      break;
  }
  talked_ = true;
  if (!lingering_) {
    try {
      OnChunk({scratch.data(), received.bytes});
    } catch (const std::bad_alloc&) {
      context_.hub.OnGone(*this, CloseReason::kNoMemory);
      return After::kGone;
    }
  }
  if (transport_->holds_input()) WatchInput();
  return After::kRead;
}

void Subscriber::OnChunk(std::string_view chunk) {
  MessageBatch messages;
  std::optional<CloseReason> end;
  if (context_.config.netstring_format) {
    end = Decode(chunk, messages);
    TimeFrame();
  } else {
    messages.Add(chunk);
  }
  if (!messages.empty()) OnMessages(std::move(messages));
  if (end) context_.hub.End(*this, *end);
}

std::optional<CloseReason> Subscriber::Decode(std::string_view chunk, MessageBatch& messages) {
  const netstring::Limits limits{.data = context_.config.max_message};
  while (true) {
    const FrameReader::Item item = reader_.Next(chunk, limits);
    switch (item.kind) {
      case FrameReader::Kind::kRun:  // only NextRun makes runs
      case FrameReader::Kind::kMore:
        return std::nullopt;
      case FrameReader::Kind::kFrame:
        StopTime();  // what follows is another frame
        if (!item.payload.empty()) messages.Add(item.payload);
        break;
      case FrameReader::Kind::kError:
        if (context_.config.bad_frame == BadFrame::kClose) return ReasonOf(item.error);
        context_.counters.messages.discarded_bytes += reader_.Discard(chunk);
        return std::nullopt;
    }
  }
}

void Subscriber::OnFrameTimeout() noexcept {
  // What is missing may have come while the loop was held up.
  const auto frame = began();
  After after;
  do {
    after = OnReadable();
    if (after == After::kGone || !timed() || began() != frame) return;
  } while (after == After::kRead);
  StopTime();
  context_.hub.End(*this, CloseReason::kFrameTimeout);
}

void Subscriber::OnMessages(MessageBatch messages) {
  const std::size_t count = messages.size();
  const std::size_t bytes = messages.bytes();
  const bool heard = context_.workers.active();
  if (heard) context_.workers.MessagesReceived(origin(), std::move(messages));
  auto& counters = context_.counters.messages;
  counters.received += count;
  counters.bytes += bytes;
  if (!heard) {
    counters.dropped_no_hook += count;
    return;
  }
  counters.unhandled += count;
  unhandled_ += static_cast<std::uint32_t>(count);
  unhandled_bytes_ += bytes;
  WatchInput();
}

}  // namespace evrelay
