// Counts of durations in nanoseconds, exact to 1 %, in fixed memory: 64 buckets for each power of
// two.

#ifndef EVRELAY_TESTS_BENCH_HISTOGRAM_H_
#define EVRELAY_TESTS_BENCH_HISTOGRAM_H_

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace bench {

class Histogram {
 public:
  void Add(std::uint64_t value) {
    ++counts_[Bucket(value)];
    ++total_;
  }

  std::uint64_t total() const { return total_; }

  // The middle of the bucket that holds the value at `share` (0 … 1) of all; 0 when there is none.
  double Quantile(double share) const {
    const double wanted = share * static_cast<double>(total_);
    std::uint64_t seen = 0;
    for (std::size_t bucket = 0; bucket < counts_.size(); ++bucket) {
      seen += counts_[bucket];
      if (counts_[bucket] != 0 && static_cast<double>(seen) >= wanted) return Middle(bucket);
    }
    return 0;
  }

 private:
  static constexpr std::size_t kSteps = 64;

  // Values below 2 * kSteps have a bucket each; above, `shift` low bits are dropped.
  static std::size_t Bucket(std::uint64_t value) {
    if (value < 2 * kSteps) return value;
    const auto shift = static_cast<std::size_t>(std::bit_width(value)) - 7;
    return shift * kSteps + (value >> shift);
  }

  static double Middle(std::size_t bucket) {
    if (bucket < 2 * kSteps) return static_cast<double>(bucket);
    const std::size_t shift = bucket / kSteps - 1;
    const std::uint64_t low = (bucket - shift * kSteps) << shift;
    return static_cast<double>(low) + static_cast<double>(std::uint64_t{1} << shift) / 2;
  }

  std::array<std::uint64_t, 59 * kSteps> counts_{};
  std::uint64_t total_ = 0;
};

}  // namespace bench

#endif  // EVRELAY_TESTS_BENCH_HISTOGRAM_H_
