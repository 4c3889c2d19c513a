// Outboxes on a log under random operations, against a model that keeps, for every subscriber, the
// list of frames that it is still to get. A failure names its seed.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "evrelay/netstring.h"
#include "fanout/outbox.h"
#include "support/catch.h"

namespace evrelay {
namespace {

using Format = BroadcastLog::Format;
constexpr std::size_t kSize = Segment::kSize;
constexpr std::size_t kLargest = 3 * 1024 * 1024;

// Catch2's own checks are too slow for every step.
void Expect(bool good, const char* what) {
  if (!good) FAIL(what);
}

const std::string& RandomBytes() {
  static const std::string bytes = [] {
    std::mt19937 random(1);
    std::string made(2 * kLargest, '\0');
    for (char& byte : made) byte = static_cast<char>(random());
    return made;
  }();
  return bytes;
}

// One subscriber as it ought to be.
struct Subscriber {
  enum class Kind { kEvent, kDirect, kTail };
  struct Item {
    std::string_view wire;
    Kind kind;
    Position start;  // of an event: its place in the log
  };

  Outbox outbox;
  std::deque<Item> items;  // to be sent, in order
  std::size_t sent = 0;    // bytes of items.front()
  bool pinned = false;     // the outbox has a place of its own
  bool stopped = false;
  Position limit = 0;  // where a stopped one's part of the log ends

  std::uint64_t due = 0;
  std::uint64_t sent_whole = 0;
  std::uint64_t written = 0;  // as the outbox counts
  std::uint64_t skipped = 0;
};

class Model {
 public:
  Model(std::uint32_t seed, Format format) : random_(seed), format_(format), log_(format) {
    mostly_small_ = Chance(70);
    for (std::size_t i = Below(5) + 1; i > 0; --i) Start();
  }

  void Run(std::size_t steps) {
    for (std::size_t i = 0; i < steps; ++i) {
      Step();
      CheckAll();
    }
    // In the end everyone who reads on gets all there is. The last event reaches also those that
    // started behind all others.
    AppendEvent(1);
    Flush(true);
    CheckAll();
    Expect(log_.segments() == 0, "a log without laggards holds nothing");
    for (const auto& subscriber : subscribers_) {
      Expect(subscriber->items.empty() && subscriber->outbox.Queued(log_) == 0,
             "all has been sent");
    }
  }

 private:
  std::size_t Below(std::size_t n) {
    return std::uniform_int_distribution<std::size_t>(0, n - 1)(random_);
  }
  bool Chance(std::size_t percent) { return Below(100) < percent; }
  Subscriber& Any() { return *subscribers_[Below(subscribers_.size())]; }

  void Step() {
    switch (Below(16)) {
      case 0:
      case 1:
      case 2:
        return AppendEvent(PayloadSize());
      case 3:
      case 4:
        return format_ == Format::kRaw ? AppendEvent(PayloadSize()) : AppendRun();
      case 5:
        return AppendEvent(SizeToSegmentEnd());
      case 6:
        if (subscribers_.size() < 8) Start();
        return;
      case 7:
      case 8:
        return Push(Any());
      case 9:
        return Skip(Any());
      case 10:
        if (Chance(40)) Stop(Any());
        return;
      case 11:
        if (Chance(40)) Abandon(Below(subscribers_.size()));
        return;
      case 12:
        log_.Trim();
        return;
      default:
        return Flush(Chance(20));
    }
  }

  // --- operations ---

  std::size_t PayloadSize() {
    if (mostly_small_ && !Chance(3)) return 1 + Below(Chance(50) ? 40 : 3000);
    return 1 + Below(Chance(10) ? kLargest : 200'000);
  }

  // Such that the log ends within a few bytes of the end of a segment.
  std::size_t SizeToSegmentEnd() {
    if (mostly_small_ && Chance(70)) return PayloadSize();
    const std::size_t used = log_.bytes() % kSize;
    return std::max<std::size_t>(1, kSize - used - std::min(kSize - used, Below(16)));
  }

  std::string_view Payload(std::size_t size) {
    return std::string_view(RandomBytes()).substr(Below(kLargest), size);
  }

  std::string_view Keep(std::string wire) { return kept_.emplace_back(std::move(wire)); }

  // The event `wire`, which the log has got at `start`, is for everyone.
  void Expected(std::string_view wire, Position start) {
    starts_.push_back(start);
    for (const auto& subscriber : subscribers_) {
      if (subscriber->stopped) continue;
      subscriber->items.push_back({wire, Subscriber::Kind::kEvent, start});
      ++subscriber->due;
    }
  }

  void AppendEvent(std::size_t size) {
    const std::string_view payload = Payload(size);
    const Position start = log_.end().position;
    log_.AppendEvent(payload);
    Expected(Keep(format_ == Format::kRaw ? std::string(payload) : netstring::Encode(payload)),
             start);
  }

  void AppendRun() {
    const Position start = log_.end().position;
    std::string run;
    std::vector<std::size_t> ends;
    for (std::size_t i = 1 + Below(30); i > 0 && run.size() < kLargest; --i) {
      netstring::Append(run, Payload(PayloadSize()));
      ends.push_back(run.size());
    }
    log_.AppendRun(run, static_cast<std::uint32_t>(ends.size()));
    const std::string_view wire = Keep(std::move(run));
    std::size_t at = 0;
    for (const std::size_t end : ends) {
      Expected(wire.substr(at, end - at), start + at);
      at = end;
    }
  }

  void Start() {
    auto subscriber = std::make_unique<Subscriber>();
    subscriber->pinned = log_.end() != log_.mark();
    subscriber->outbox.Start(log_);
    subscribers_.push_back(std::move(subscriber));
  }

  void Push(Subscriber& to) {
    if (to.stopped) return;
    const std::string_view wire =
        Keep(netstring::Encode(Payload(1 + Below(Chance(95) ? 200 : 300'000))));
    to.outbox.Push(log_, Frame(std::string(wire)));
    to.items.push_back({wire, Subscriber::Kind::kDirect, 0});
    ++to.due;
  }

  void Stop(Subscriber& subscriber) {
    if (subscriber.stopped) return;
    subscriber.stopped = true;
    subscriber.limit = log_.end().position;
    subscriber.outbox.Stop(log_);
  }

  void Skip(Subscriber& subscriber) {
    if (!subscriber.pinned || subscriber.stopped) return;
    const Position end = log_.end().position;
    const Position from = end - Below(std::min<std::size_t>(end, 2 * kSize) + 1);
    const Boundary target = log_.FirstFrameFrom(from);
    // Frames before the log's oldest byte cannot be found any more, nor can anyone stand there.
    const auto expected =
        std::lower_bound(starts_.begin(), starts_.end(), std::max(from, log_.oldest()));
    Expect(target.position == (expected == starts_.end() ? end : *expected), "first frame: place");
    Expect(target.ordinal == static_cast<std::uint64_t>(expected - starts_.begin()),
           "first frame: ordinal");

    const bool on_its_way = Below(3) == 0;  // the next byte, though it does not count as sent
    const bool front_begun = subscriber.sent > 0 || on_its_way;
    std::uint64_t skipped = 0;
    std::deque<Subscriber::Item> left;
    for (std::size_t i = 0; i < subscriber.items.size(); ++i) {
      const Subscriber::Item& item = subscriber.items[i];
      const bool begun = i == 0 && front_begun;
      if (item.kind == Subscriber::Kind::kEvent && item.start < target.position && !begun) {
        ++skipped;
      } else {
        left.push_back(item);
      }
    }
    const Outbox::Skipped result = subscriber.outbox.SkipTo(log_, target, on_its_way);
    Expect(result.skipped == skipped, "skip: number of frames");
    subscriber.written += result.written;
    subscriber.skipped += skipped;
    if (skipped == 0) return;
    if (front_begun && left.front().kind == Subscriber::Kind::kEvent) {
      left.front().kind = Subscriber::Kind::kTail;
    }
    subscriber.items.swap(left);
    Expect(subscriber.written == subscriber.sent_whole, "skip: written");
  }

  void Abandon(std::size_t index) {
    Subscriber& subscriber = *subscribers_[index];
    const Outbox::Abandoned result = subscriber.outbox.Abandon(log_);
    subscriber.written += result.written;
    Expect(subscriber.written == subscriber.sent_whole, "abandon: written");
    Expect(result.dropped == subscriber.items.size(), "abandon: dropped");
    Expect(subscriber.due == subscriber.written + subscriber.skipped + result.dropped,
           "abandon: the books balance");
    Remove(index);
  }

  void Remove(std::size_t index) {
    subscribers_.erase(subscribers_.begin() + static_cast<std::ptrdiff_t>(index));
    if (subscribers_.empty()) Start();
  }

  // One turn's end: everyone is sent to, but some of those that are behind already.
  void Flush(bool everything) {
    std::shuffle(subscribers_.begin(), subscribers_.end(), random_);
    // In the middle of a flush a drained outbox must not be touched, and a stopped one never again.
    std::vector<const Subscriber*> ended;
    for (const auto& subscriber : subscribers_) {
      if (subscriber->pinned && !everything && Chance(30)) continue;
      const bool drained = Send(*subscriber, everything ? 100 : Below(101));
      if (drained && subscriber->stopped) ended.push_back(subscriber.get());
    }
    for (const Subscriber* subscriber : ended) {
      Expect(subscriber->due == subscriber->written + subscriber->skipped,
             "end: the books balance");
      const auto is = [subscriber](const auto& other) { return other.get() == subscriber; };
      subscribers_.erase(std::find_if(subscribers_.begin(), subscribers_.end(), is));
    }
    log_.Mark();
    if (subscribers_.empty()) Start();
    CheckSegments();
  }

  // Sends until nothing is due, or the socket takes less than it was given. True: nothing is due.
  bool Send(Subscriber& subscriber, std::size_t percent_taken_whole) {
    while (true) {
      iovec pieces[6];
      const std::size_t count = subscriber.outbox.Gather(log_, pieces, 1 + Below(6));
      std::size_t size = 0;
      for (std::size_t i = 0; i < count; ++i) size += pieces[i].iov_len;
      if (size == 0) {
        Expect(subscriber.items.empty(), "nothing to send while something is due");
        return true;
      }
      const bool whole = Chance(percent_taken_whole);
      const std::size_t taken = whole ? size : Taken(size);
      Receive(subscriber, pieces, taken);
      const Outbox::Consumed result = subscriber.outbox.Consume(log_, taken);
      subscriber.written += result.written;
      subscriber.pinned = !result.drained;
      Expect(result.drained == subscriber.items.empty(), "drained when nothing is due");
      Expect(subscriber.written <= subscriber.sent_whole, "written before it was sent");
      if (result.drained) {
        Expect(subscriber.written == subscriber.sent_whole, "drained: written");
        return true;
      }
      if (!whole) return false;
    }
  }

  // How much a socket that is nearly full takes of `size` bytes.
  std::size_t Taken(std::size_t size) {
    if (Chance(20)) return 0;
    return Below(Chance(50) ? size : std::min<std::size_t>(size, 20));
  }

  // The first `bytes` of the pieces are what the subscriber is to get next.
  void Receive(Subscriber& subscriber, const iovec* piece, std::size_t bytes) {
    std::size_t used = 0;  // of *piece
    while (bytes > 0) {
      Expect(!subscriber.items.empty(), "bytes beyond what is due");
      if (used == piece->iov_len) {
        ++piece;
        used = 0;
      }
      const Subscriber::Item& item = subscriber.items.front();
      const std::size_t n =
          std::min({bytes, piece->iov_len - used, item.wire.size() - subscriber.sent});
      Expect(std::memcmp(static_cast<const char*>(piece->iov_base) + used,
                         item.wire.data() + subscriber.sent, n) == 0,
             "bytes out of order");
      bytes -= n;
      used += n;
      subscriber.sent += n;
      if (subscriber.sent == item.wire.size()) {
        subscriber.items.pop_front();
        subscriber.sent = 0;
        ++subscriber.sent_whole;
      }
    }
  }

  // --- what must hold at every step ---

  void CheckAll() {
    for (const auto& subscriber : subscribers_) {
      Outbox& outbox = subscriber->outbox;
      if (Chance(10)) {
        subscriber->written += outbox.CountWritten(log_);
        Expect(subscriber->written == subscriber->sent_whole, "counted: written");
      }
      Expect(subscriber->due == subscriber->written + outbox.Queued(log_) + subscriber->skipped,
             "the books balance");
      std::uint64_t lag = 0;
      std::size_t direct = 0;
      for (const Subscriber::Item& item : subscriber->items) {
        const std::size_t unsent =
            item.wire.size() - (&item == &subscriber->items.front() ? subscriber->sent : 0);
        if (item.kind != Subscriber::Kind::kTail) lag += unsent;
        if (item.kind == Subscriber::Kind::kDirect) {
          direct += unsent + DirectQueue::kFrameCost;
          lag += DirectQueue::kFrameCost;
        }
      }
      Expect(outbox.direct_bytes() == direct, "direct bytes");
      Expect(outbox.Lag(log_) == lag, "lag");
      if (subscriber->stopped) {
        Expect(outbox.Beyond(log_) == log_.end().position - subscriber->limit, "beyond");
      }
      const Position position = subscriber->pinned ? PositionOf(*subscriber) : log_.mark().position;
      Expect(position >= log_.oldest() && position <= log_.end().position, "a reader off the log");
    }
    Expect(log_.end().ordinal == starts_.size(), "number of events");
    Expect(log_.free_segments() <= BroadcastLog::kFreeSegments, "free segments");
    Expect(log_.segments() >= (log_.bytes() + kSize - 1) / kSize, "segments hold the bytes");
  }

  // After Mark: the segments from the last reader's on, and no others.
  void CheckSegments() {
    Position needed = UINT64_MAX;
    for (const auto& subscriber : subscribers_) {
      if (subscriber->pinned) needed = std::min(needed, PositionOf(*subscriber));
    }
    if (needed == UINT64_MAX) {
      Expect(log_.segments() == 0, "segments that nobody needs");
      return;
    }
    Expect(needed >= log_.oldest() && needed - log_.oldest() <= kSize,
           "segments before all readers");
    Expect(log_.segments() == std::max<std::uint64_t>(1, (log_.bytes() + kSize - 1) / kSize),
           "segments after the last byte");
  }

  // Of a pinned one: where the next event that it is to get goes on.
  Position PositionOf(const Subscriber& subscriber) const {
    for (const Subscriber::Item& item : subscriber.items) {
      if (item.kind != Subscriber::Kind::kEvent) continue;
      return item.start + (&item == &subscriber.items.front() ? subscriber.sent : 0);
    }
    return subscriber.stopped ? subscriber.limit : log_.end().position;
  }

  std::mt19937 random_;
  const Format format_;
  bool mostly_small_ = false;
  std::deque<std::string> kept_;  // the wire form of all that was ever sent
  std::vector<Position> starts_;  // of all events
  BroadcastLog log_;
  std::vector<std::unique_ptr<Subscriber>> subscribers_;
};

void RunModel(Format format) {
  for (std::uint32_t seed = 1; seed <= 250; ++seed) {
    CAPTURE(seed);
    Model(seed, format).Run(80);
  }
}

}  // namespace

TEST_CASE("outbox model: frames") { RunModel(Format::kNetstring); }

TEST_CASE("outbox model: raw events") { RunModel(Format::kRaw); }

}  // namespace evrelay
