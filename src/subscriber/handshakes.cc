#include "subscriber/handshakes.h"

#include <utility>

#include "event/io_event.h"
#include "logging/log.h"
#include "subscriber/for_log.h"

namespace evrelay {

class Handshakes::Handshake : public ListHook<ListTag> {
 public:
  Handshake(Handshakes& owner, std::unique_ptr<TlsTransport> its_transport,
            const SocketAddress& its_peer, PeerCounts::Place its_place)
      : transport(std::move(its_transport)),
        event(owner.loop_, transport->fd(), IoEvent::To<&Handshake::OnReady>(this)),
        peer(its_peer),
        place(std::move(its_place)),
        owner_(owner) {}

  std::unique_ptr<TlsTransport> transport;
  IoEvent event;
  SocketAddress peer;
  PeerCounts::Place place;
  const std::chrono::steady_clock::time_point deadline = Loop::Now() + kTime;

 private:
  void OnReady(unsigned ready) noexcept {
    if ((ready & IoEvent::kLost) != 0) {
      owner_.Fail(*this, TlsFailure::kClosed, "there is no memory for it");
    } else {
      owner_.GoOn(*this);
    }
  }

  Handshakes& owner_;
};

Handshakes::Handshakes(Loop& loop, Counters& counters, Handler& handler)
    : loop_(loop),
      counters_(counters),
      handler_(handler),
      deadline_(loop, TimerEvent::To<&Handshakes::OnDeadline>(this)) {}

Handshakes::~Handshakes() { DropAll(); }

void Handshakes::Begin(std::unique_ptr<TlsTransport> transport, const SocketAddress& peer,
                       PeerCounts::Place place) {
  auto* handshake = new Handshake(*this, std::move(transport), peer, std::move(place));
  handshakes_.PushBack(*handshake);
  ++counters_.tls.handshaking;
  handshake->event.Watch(IoEvent::kRead);
  if (!deadline_.scheduled()) deadline_.Schedule(kTime);
}

void Handshakes::DropAll() {
  while (!handshakes_.empty()) Delete(handshakes_.front());
}

void Handshakes::GoOn(Handshake& handshake) noexcept {
  const TlsTransport::Handshaken result = handshake.transport->Handshake();
  switch (result.progress) {
    case TlsTransport::Progress::kMore:
      handshake.event.Watch(result.waits_to_send ? IoEvent::kWrite : IoEvent::kRead);
      return;
    case TlsTransport::Progress::kFailed:
      Fail(handshake, result.failure, result.words);
      return;
    case TlsTransport::Progress::kDone:
      break;
  }
  ++counters_.tls.accepted;
  handshake.event.Watch(0);
  std::unique_ptr<Transport> transport = std::move(handshake.transport);
  const SocketAddress peer = handshake.peer;
  PeerCounts::Place place = std::move(handshake.place);
  Delete(handshake);
  handler_.OnHandshaken(std::move(transport), peer, std::move(place));
}

void Handshakes::Fail(Handshake& handshake, TlsFailure failure, std::string_view words) {
  ++counters_.tls.failed[failure];
  static LogLimit limit;
  LogWarnLimited(limit, "subscriber", "{} is turned away: TLS handshake, {}: {}",
                 ForLog(handshake.peer), Name(failure), ForLog(words));
  Delete(handshake);
}

void Handshakes::Delete(Handshake& handshake) {
  --counters_.tls.handshaking;
  delete &handshake;
}

void Handshakes::OnDeadline() noexcept {
  const auto now = Loop::Now();
  while (!handshakes_.empty() && handshakes_.front().deadline <= now) {
    Fail(handshakes_.front(), TlsFailure::kTimeout, "not done within 5 s");
  }
  if (!handshakes_.empty()) deadline_.Schedule(handshakes_.front().deadline - now);
}

}  // namespace evrelay
