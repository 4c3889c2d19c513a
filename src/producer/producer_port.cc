#include "producer/producer_port.h"

#include <algorithm>
#include <cassert>
#include <new>
#include <utility>

#include "logging/log.h"

namespace evrelay {

namespace {

constexpr std::string_view kLogger = "producer";

}  // namespace

ProducerPort::ProducerPort(Loop& loop, Hub& hub, const Config& config, Counters& counters,
                           UniqueFd activated)
    : loop_(loop),
      hub_(hub),
      config_(config),
      counters_(counters),
      hangups_(loop),
      scratch_(kTurnIntake, '\0') {
  Listener::Handler& handler = *this;
  if (activated) {
    listener_.emplace(loop, std::move(activated), handler);
    return;
  }
  const ProducerConfig& producer = config.producer;
  path_.emplace(UnixSocketOptions{producer.socket, producer.mode, producer.user, producer.group});
  listener_.emplace(loop, path_->TakeListener(), handler, "unix:" + producer.socket);
}

ProducerPort::~ProducerPort() {
  while (!all_.empty()) Destroy(all_.front());
}

void ProducerPort::Intake() {
  readable_.TakeAll(newly_readable_);
  std::size_t budget = kTurnIntake;
  while (budget != 0 && !readable_.empty()) {
    // A round: each that is readable now has one read of its share, in the order of their waiting.
    IntrusiveList<Producer, ReadableTag> round;
    round.TakeAll(readable_);
    std::size_t waiting = 0;
    for (auto at = round.begin(); at != round.end(); ++at) ++waiting;
    assert(waiting != 0);
    const std::size_t share = std::max(kMinShare, budget / waiting);
    while (budget != 0 && !round.empty()) {
      Producer& producer = round.PopFront();
      const Producer::Read read = producer.ReadSome(std::min(share, budget));
      budget -= read.bytes;
      if (read.more) readable_.PushBack(producer);
    }
    // Whom the budget did not reach goes first in the next turn.
    round.TakeAll(readable_);
    readable_.TakeAll(round);
  }
}

std::span<char> ProducerPort::Room(std::size_t held) {
  if (held > kMinRoom) return scratch_;
  return hub_.Room(held + kMinRoom).subspan(held);
}

void ProducerPort::SendAnswers() {
  while (!answering_.empty()) {
    Producer& producer = answering_.PopFront();
    if (!producer.SendAnswers()) Destroy(producer);
  }
}

void ProducerPort::SetHeld(bool held) {
  if (held == held_) return;
  held_ = held;
  // Nor is anybody let in who could not be heard: the kernel's backlog has more places than we do.
  listener_->SetPaused(held);
  for (Producer& producer : all_) producer.UpdateWatch();
}

void ProducerPort::OnReload() {
  for (Producer& producer : all_) producer.UpdatePermissions();
}

void ProducerPort::Drain() {
  draining_ = true;
  listener_->Stop();
  for (Producer& producer : all_) {
    Producer::Read read;
    std::size_t budget = kDrainIntake;
    while (budget != 0 && !producer.closing()) {
      read = producer.ReadSome(budget);
      if (!read.more) break;
      budget -= read.bytes;
    }
    producer.EndSuspended();
    producer.BeginClose(CloseReason::kDrain);
  }
}

void ProducerPort::OnAccept(UniqueFd fd, const SocketAddress&) noexcept {
  if (connections_ >= config_.producer.max_connections) {
    ++counters_.producers.refused[RefuseReason::kFull];
    static LogLimit limit;
    LogWarnLimited(limit, kLogger,
                   "a producer is turned away: all {} places of producer.max_connections are taken",
                   config_.producer.max_connections);
    return;
  }
  try {
    all_.PushBack(*new Producer(*this, std::move(fd)));
  } catch (const std::bad_alloc&) {
    ++counters_.producers.refused[RefuseReason::kNoMemory];
    return;
  }
  ++counters_.producers.accepted;
  ++connections_;
}

void ProducerPort::OnAcceptShed() noexcept {
  ++counters_.producers.refused[RefuseReason::kNoFiles];
}

void ProducerPort::Destroy(Producer& producer) {
  --connections_;
  delete &producer;
}

}  // namespace evrelay
