// Why connections end and deliveries are lost: one word each, the same in log, metric and manual.

#ifndef EVRELAY_METRICS_REASONS_H_
#define EVRELAY_METRICS_REASONS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace evrelay {

enum class CloseReason : std::uint8_t {
  kEof,             // the peer ended its side
  kReset,           // the connection broke
  kSlowSubscriber,  // its lag reached max_lag
  kStalled,         // it held producers back for stall_timeout without taking a byte
  kTruncated,       // EOF inside a frame
  kBadSize,
  kBadType,
  kBadList,
  kTooBig,
  kForbidden,     // a producer sent an event that producer.allow denies
  kSlowProducer,  // a producer does not read its answers
  kDrain,         // evrelay is stopping
  kCount,
};

inline constexpr std::array<std::string_view, static_cast<std::size_t>(CloseReason::kCount)>
    kCloseReasonNames{"eof",       "reset",     "slow-subscriber", "stalled",
                      "truncated", "bad-size",  "bad-type",        "bad-list",
                      "too-big",   "forbidden", "slow-producer",   "drain"};

// Why a frame that was due to a subscriber was never wholly handed to the kernel.
enum class DropReason : std::uint8_t {
  kClosing,  // it did not take what was due within the 5 s after its close
  kReset,
  kSlowSubscriber,
  kSkipped,  // policy skip moved the subscriber past it
  kStalled,
  kDrain,
  kCount,
};

inline constexpr std::array<std::string_view, static_cast<std::size_t>(DropReason::kCount)>
    kDropReasonNames{"closing", "reset", "slow-subscriber", "skipped", "stalled", "drain"};

// Why a connection was turned away at the door.
enum class RefuseReason : std::uint8_t {
  kFull,     // max_clients or producer.max_connections
  kNoFiles,  // the process's or the system's file descriptors are used up
  kCount,
};

inline constexpr std::array<std::string_view, static_cast<std::size_t>(RefuseReason::kCount)>
    kRefuseReasonNames{"full", "no-files"};

// The CODE of an `error CODE TEXT` answer to a producer's request.
enum class ErrorCode : std::uint8_t {
  kUnknownVerb,
  kBadArguments,
  kTooBig,
  kForbidden,
  kDraining,
  kBadSize,
  kBadType,
  kBadList,
  kTruncated,
  kCount,
};

inline constexpr std::array<std::string_view, static_cast<std::size_t>(ErrorCode::kCount)>
    kErrorCodeNames{"unknown-verb", "bad-arguments", "too-big",  "forbidden", "draining",
                    "bad-size",     "bad-type",      "bad-list", "truncated"};

inline constexpr std::string_view Name(CloseReason r) {
  return kCloseReasonNames[static_cast<std::size_t>(r)];
}
inline constexpr std::string_view Name(DropReason r) {
  return kDropReasonNames[static_cast<std::size_t>(r)];
}
inline constexpr std::string_view Name(RefuseReason r) {
  return kRefuseReasonNames[static_cast<std::size_t>(r)];
}
inline constexpr std::string_view Name(ErrorCode c) {
  return kErrorCodeNames[static_cast<std::size_t>(c)];
}

}  // namespace evrelay

#endif  // EVRELAY_METRICS_REASONS_H_
