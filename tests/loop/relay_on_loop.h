// The relay as the daemon puts it together, on a loop that the test turns by hand, and peers whose
// sockets the test reads and writes. Nothing here waits: all is in one process.

#ifndef EVRELAY_TESTS_LOOP_RELAY_ON_LOOP_H_
#define EVRELAY_TESTS_LOOP_RELAY_ON_LOOP_H_

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/config.h"
#include "event/before_wait.h"
#include "event/loop.h"
#include "event/mailbox.h"
#include "metrics/counters.h"
#include "net/peer_counts.h"
#include "producer/producer_port.h"
#include "relay/hub.h"
#include "subscriber/subscriber_port.h"
#include "util/unique_fd.h"
#include "worker/worker_pool.h"

namespace evrelay {

// The other end of a connection.
class Peer {
 public:
  enum class End { kNone, kEof, kReset };

  explicit Peer(UniqueFd fd) : fd_(std::move(fd)) {}

  // Writes what the socket takes now; how much that was.
  std::size_t Write(std::string_view bytes);
  // Reads what has arrived, at most `max` bytes, and keeps it in `received`. False: nothing came.
  bool Read(std::size_t max = SIZE_MAX);

  void EndWriting() { shutdown(fd_.get(), SHUT_WR); }
  void Close() { fd_.Close(); }
  void CloseWithReset();

  int fd() const { return fd_.get(); }

  std::string received;
  End end = End::kNone;

 private:
  UniqueFd fd_;
};

class RelayOnLoop {
 public:
  enum class Family { kUnix, kTcp };  // of the subscriber port

  // `hooks`: one a worker, of config.workers; none: there is no script. When the first entry of
  // config.bind_addr is a Unix socket they are all opened, in place of one of `family`.
  explicit RelayOnLoop(const Config& config = {}, Family family = Family::kUnix,
                       std::vector<std::unique_ptr<Hook>> hooks = {});
  ~RelayOnLoop();

  Peer Subscriber();
  // One that has connected to that entry of config.bind_addr, a Unix socket, and may still have to
  // be accepted.
  Peer Knock(std::size_t entry);
  Peer Producer();
  // Connects as a subscriber, and is not waited for.
  Peer Knock() { return Connect(subscriber_address_); }

  // Turns until nothing is left to do, and checks that the books balance.
  void Pump();
  // Pumps until the condition holds. False: it does not.
  bool PumpUntil(const std::function<bool()>& condition);
  // Pumps and reads until nothing more comes; all that the peer has received so far.
  const std::string& Receive(Peer& peer);
  // Pumps and writes until all is written or no more is taken; the number of bytes written.
  std::size_t Feed(Peer& peer, std::string_view bytes);

  // The daemon's first steps of a stop.
  void Drain();

  std::uint64_t Closed(CloseReason reason) { return counters.subscribers.closed[reason]; }
  std::uint64_t Dropped(DropReason reason) { return counters.deliveries.dropped[reason]; }
  void CheckBooks();

  Config config;
  Counters counters;
  Loop loop;
  PeerCounts peers;
  Hub hub;
  Mailbox<Command> commands;
  WorkerPool workers;
  std::uint64_t largest_intake = 0;  // bytes of events that came in one turn, the most there were

 private:
  void OnTurn() noexcept;

  // Filled when the listeners, which move into the ports, are made.
  struct Address {
    sockaddr_storage storage{};
    socklen_t size = 0;
  };
  static UniqueFd Listen(Family family, Address& address);
  static Address UnixAddress(const ListenConfig& listen);
  std::vector<UniqueFd> ListenForSubscribers(Family family);
  static Peer Connect(const Address& address);

  Address producer_address_;
  Address subscriber_address_;

 public:
  ProducerPort producers;
  SubscriberPort subscribers;

 private:
  BeforeWait turn_;
};

// `count` frames whose payloads all differ; `size` bytes each, or as long as their number.
std::string Numbered(std::size_t count, std::size_t size = 0, char mark = 'e');

// The number of whole frames at the start of `wire`, and the bytes that they take.
std::size_t WholeFrames(std::string_view wire, std::size_t& used);

}  // namespace evrelay

#endif  // EVRELAY_TESTS_LOOP_RELAY_ON_LOOP_H_
