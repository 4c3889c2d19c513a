// Mailbox: the one door into a loop from other threads. Items wait here until the loop takes them.
//
// Memory: kMaxBytes of items, as their senders weigh them, and one item more. When it is full the
// sender waits; the loop never waits for anyone, so the two cannot lock each other.

#ifndef EVRELAY_EVENT_MAILBOX_H_
#define EVRELAY_EVENT_MAILBOX_H_

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <utility>

#include "event/loop.h"

namespace evrelay {

// Wakes a loop from another thread, to a turn in which it would otherwise have waited.
class Wakeup {
 public:
  explicit Wakeup(Loop& loop);
  Wakeup(const Wakeup&) = delete;
  Wakeup& operator=(const Wakeup&) = delete;
  ~Wakeup();

  // Any thread.
  void Send() noexcept;

 private:
  ev_async watcher_;
  Loop* loop_;
};

template <class T>
class Mailbox {
 public:
  static constexpr std::size_t kMaxBytes = 16 * 1024 * 1024;

  explicit Mailbox(Loop& loop) : wakeup_(loop) {}
  // No thread may be in Post any more.
  ~Mailbox() = default;
  Mailbox(const Mailbox&) = delete;
  Mailbox& operator=(const Mailbox&) = delete;

  // Any thread but the loop's. Waits while the mailbox is full. False: it has been closed, and
  // `item` stays the caller's.
  bool Post(T&& item, std::size_t bytes);

  // The loop's thread. Hands items to `consume`, oldest first, until `budget` bytes are used up
  // (the one that crosses the line is the last); when some remain, the loop will turn once more.
  // Returns whether there were any.
  template <class Consume>
  bool Take(std::size_t budget, Consume&& consume);

  // Any thread. From now on Post returns false and nobody waits in it. What has been posted can
  // still be taken.
  void Close();

 private:
  // ...
  Wakeup wakeup_;
};

}  // namespace evrelay

#endif  // EVRELAY_EVENT_MAILBOX_H_
