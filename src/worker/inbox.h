// Inbox: the one door into a worker. Items wait here until the worker takes them, all at once.
//
// Memory: no cap of its own, as the loop never waits. The hub stops reading a connection that has
// too much unhandled, and a connection has no more than two other items here.

#ifndef EVRELAY_WORKER_INBOX_H_
#define EVRELAY_WORKER_INBOX_H_

#include <condition_variable>
#include <mutex>
#include <utility>
#include <vector>

namespace evrelay {

template <class T>
class Inbox {
 public:
  // The loop's thread. Never waits for the worker.
  void Post(T item) {
    bool was_empty;
    {
      const std::lock_guard lock(mutex_);
      was_empty = posted_.empty();
      posted_.push_back(std::move(item));
    }
    if (was_empty) ready_.notify_one();
  }

  // The worker's thread. Waits until there are items and swaps them with `items`, which must be
  // empty. False: closed; what is left here is not to be taken any more.
  bool Take(std::vector<T>& items) {
    std::unique_lock lock(mutex_);
    ready_.wait(lock, [this] { return closed_ || !posted_.empty(); });
    if (closed_) return false;
    posted_.swap(items);
    return true;
  }

  // Any thread.
  void Close() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    ready_.notify_one();
  }

 private:
  std::mutex mutex_;
  std::condition_variable ready_;
  std::vector<T> posted_;  // guarded by mutex_, as is the next
  bool closed_ = false;
};

}  // namespace evrelay

#endif  // EVRELAY_WORKER_INBOX_H_
