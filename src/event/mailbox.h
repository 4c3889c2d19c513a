// Mailbox: the one door into a loop from other threads. Items wait here until the loop takes them.
//
// Memory: kMaxBytes of items, as their senders weigh them, and one item more. When it is full the
// sender waits; the loop never waits for anyone, so the two cannot lock each other.

#ifndef EVRELAY_EVENT_MAILBOX_H_
#define EVRELAY_EVENT_MAILBOX_H_

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <type_traits>
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

  // Any thread. Several before the loop turns are one.
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
  // `consume` may return bytes, too: work that its sender could not weigh, which counts as used.
  // Returns whether there were any. Free of charge when there are none: meant for every turn.
  template <class Consume>
  bool Take(std::size_t budget, Consume&& consume);

  // Any thread. From now on Post returns false and nobody waits in it. What has been posted can
  // still be taken.
  void Close();

 private:
  struct Item {
    T value;
    std::size_t bytes;
  };

  // Fills taken_ from posted_ if it is empty. False: there is nothing.
  bool Refill();

  std::mutex mutex_;
  std::condition_variable room_;
  std::deque<Item> posted_;  // guarded by mutex_, as are the next two
  std::size_t bytes_ = 0;    // of posted_ and taken_
  bool closed_ = false;
  // posted_ is not empty. Written under mutex_. It becomes true before the wake-up is sent, so a
  // loop that still read false before it waited will turn again.
  std::atomic<bool> any_posted_{false};

  std::deque<Item> taken_;  // the loop's: older than all of posted_
  Wakeup wakeup_;
};

template <class T>
bool Mailbox<T>::Post(T&& item, std::size_t bytes) {
  {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [this] { return closed_ || bytes_ < kMaxBytes; });
    if (closed_) return false;
    posted_.push_back({std::move(item), bytes});
    bytes_ += bytes;
    // Whoever found it false has woken the loop, or is about to.
    if (any_posted_.exchange(true)) return true;
  }
  wakeup_.Send();
  return true;
}

template <class T>
template <class Consume>
bool Mailbox<T>::Take(std::size_t budget, Consume&& consume) {
  if (!Refill()) return false;
  std::size_t used = 0;
  std::size_t work = 0;
  do {
    Item item = std::move(taken_.front());
    taken_.pop_front();
    used += item.bytes;
    if constexpr (std::is_void_v<std::invoke_result_t<Consume&, T>>) {
      consume(std::move(item.value));
    } else {
      work += consume(std::move(item.value));
    }
  } while (used + work < budget && Refill());

  {
    const std::lock_guard lock(mutex_);
    bytes_ -= used;
  }
  room_.notify_all();
  // The wake-up for what stands in posted_ may have come before taken_ was used up.
  if (!taken_.empty() || any_posted_.load()) wakeup_.Send();
  return true;
}

template <class T>
bool Mailbox<T>::Refill() {
  if (!taken_.empty()) return true;
  if (!any_posted_.load()) return false;
  const std::lock_guard lock(mutex_);
  taken_.swap(posted_);
  any_posted_.store(false);
  return true;
}

template <class T>
void Mailbox<T>::Close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  room_.notify_all();
}

}  // namespace evrelay

#endif  // EVRELAY_EVENT_MAILBOX_H_
