// AcceptRate: when the next connection may come in, so that they are `rate` a second. What was left
// unused of the last second can be made up for at once. Thread safety: none; the loop thread.

#ifndef EVRELAY_SUBSCRIBER_ACCEPT_RATE_H_
#define EVRELAY_SUBSCRIBER_ACCEPT_RATE_H_

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace evrelay {

class AcceptRate {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  // `rate` is not 0 and may differ from call to call.

  // Time until the next may come in; 0 or less: now.
  std::chrono::nanoseconds Wait(std::uint32_t rate, TimePoint now) const {
    return spent_until_ + Each(rate) - now;
  }

  // One has come in.
  void Take(std::uint32_t rate, TimePoint now) {
    spent_until_ = std::max(spent_until_, now - kSecond) + Each(rate);
  }

 private:
  static constexpr std::chrono::nanoseconds kSecond = std::chrono::seconds(1);
  static std::chrono::nanoseconds Each(std::uint32_t rate) { return kSecond / rate; }

  // The time up to here has been used for those who have come.
  TimePoint spent_until_{};
};

}  // namespace evrelay

#endif  // EVRELAY_SUBSCRIBER_ACCEPT_RATE_H_
