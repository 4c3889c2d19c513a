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
  kHook,            // the script closed it
  kAdmission,       // connection-new was not decided in time
  kHookError,       // connection-new failed
  kSlowSubscriber,  // its lag reached max_lag
  kStalled,         // it held producers back for stall_timeout without taking a byte
  kDeadPeer,        // its machine, or the way to it, is gone
  kFrameTimeout,    // one frame of it took longer than frame_timeout
  kTruncated,       // EOF inside a frame
  kBadSize,
  kBadType,
  kBadList,
  kTooBig,
  kForbidden,     // a producer sent an event that producer.allow denies
  kSlowProducer,  // a producer does not read its answers
  kDrain,         // evrelay is stopping
  kAdmin,         // the operator closed it
  kNoMemory,      // there was no memory for something of it
  kCount,
};

inline constexpr std::array<std::string_view, static_cast<std::size_t>(CloseReason::kCount)>
    kCloseReasonNames{"eof",           "reset",           "hook",      "admission",
                      "hook-error",    "slow-subscriber", "stalled",   "dead-peer",
                      "frame-timeout", "truncated",       "bad-size",  "bad-type",
                      "bad-list",      "too-big",         "forbidden", "slow-producer",
                      "drain",         "admin",           "no-memory"};

// Why a frame that was due to a subscriber was never wholly handed to the kernel.
enum class DropReason : std::uint8_t {
  kClosing,  // it did not take what was due within the 5 s after its close
  kReset,
  kDeadPeer,
  kRefused,  // the subscriber was never let in: the script or the bounds of admission refused it
  kSlowSubscriber,
  kSkipped,  // policy skip moved the subscriber past it
  kStalled,
  kDrain,
  kNoMemory,  // there was none for the frame, or for what skips it
  kCount,
};

inline constexpr std::array<std::string_view, static_cast<std::size_t>(DropReason::kCount)>
    kDropReasonNames{"closing", "reset",   "dead-peer", "refused",  "slow-subscriber",
                     "skipped", "stalled", "drain",     "no-memory"};

// Why a connection was turned away at the door.
enum class RefuseReason : std::uint8_t {
  kFull,        // max_clients or producer.max_connections
  kNoFiles,     // the process's or the system's file descriptors are used up
  kNotAllowed,  // its address is not in its listener's `allow`
  kPerIp,       // its address has max_clients_per_ip connections
  kNoMemory,    // there was none for it
  kCount,
};

inline constexpr std::array<std::string_view, static_cast<std::size_t>(RefuseReason::kCount)>
    kRefuseReasonNames{"full", "no-files", "not-allowed", "per-ip", "no-memory"};

// Why a TLS connection did not get through its handshake.
enum class TlsFailure : std::uint8_t {
  kTimeout,         // not done within 5 s
  kProtocol,        // not TLS, malformed, or nothing in common
  kVersion,         // below `min`
  kNoCertificate,   // none was shown, but client_ca asks for one
  kUnknownCa,       // the certificate is signed by somebody else
  kExpired,         // or not yet valid
  kBadCertificate,  // not acceptable for any other reason
  kClosed,          // the peer left
  kCount,
};

inline constexpr std::array<std::string_view, static_cast<std::size_t>(TlsFailure::kCount)>
    kTlsFailureNames{"timeout",    "protocol", "version",         "no-certificate",
                     "unknown-ca", "expired",  "bad-certificate", "closed"};

// What a producer can ask for, in the words of the wire; also those of producer.allow's `verbs`.
enum class Verb : std::uint8_t {
  kRelay,
  kMulticast,
  kUnicast,
  kAsyncRelay,
  kAsyncMulticast,
  kAsyncUnicast,
  kPing,
  kCount,
};

inline constexpr std::array<std::string_view, static_cast<std::size_t>(Verb::kCount)> kVerbNames{
    "relay", "multicast", "unicast", "async_relay", "async_multicast", "async_unicast", "ping"};

// The events that a script is run for, by the names of their routes.
enum class HookEventKind : std::uint8_t {
  kConnectionNew,
  kMessageReceived,
  kConnectionClosed,
  kCount,
};

inline constexpr std::array<std::string_view, static_cast<std::size_t>(HookEventKind::kCount)>
    kHookEventNames{"connection-new", "message-received", "connection-closed"};

// How a hook ended.
enum class HookOutcome : std::uint8_t {
  kDone,
  kNoRoute,  // the script has nothing for this event
  kError,    // a Lua error
  kTimeout,  // hook.timeout
  kMemory,   // hook.memory
  kCount,
};

inline constexpr std::array<std::string_view, static_cast<std::size_t>(HookOutcome::kCount)>
    kHookOutcomeNames{"done", "no-route", "error", "timeout", "memory"};

inline constexpr bool Failed(HookOutcome outcome) {
  return outcome != HookOutcome::kDone && outcome != HookOutcome::kNoRoute;
}

// The CODE of an `error CODE TEXT` answer to a producer's request.
enum class ErrorCode : std::uint8_t {
  kNoSubscriber,  // nobody is there to get the event, or to be asked
  kOverloaded,    // no more requests can be suspended
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
    kErrorCodeNames{"no-subscriber", "overloaded", "unknown-verb", "bad-arguments",
                    "too-big",       "forbidden",  "draining",     "bad-size",
                    "bad-type",      "bad-list",   "truncated"};

inline constexpr std::string_view Name(CloseReason r) {
  return kCloseReasonNames[static_cast<std::size_t>(r)];
}
inline constexpr std::string_view Name(DropReason r) {
  return kDropReasonNames[static_cast<std::size_t>(r)];
}
inline constexpr std::string_view Name(RefuseReason r) {
  return kRefuseReasonNames[static_cast<std::size_t>(r)];
}
inline constexpr std::string_view Name(TlsFailure f) {
  return kTlsFailureNames[static_cast<std::size_t>(f)];
}
inline constexpr std::string_view Name(Verb v) { return kVerbNames[static_cast<std::size_t>(v)]; }
inline constexpr std::string_view Name(HookEventKind k) {
  return kHookEventNames[static_cast<std::size_t>(k)];
}
inline constexpr std::string_view Name(HookOutcome o) {
  return kHookOutcomeNames[static_cast<std::size_t>(o)];
}
inline constexpr std::string_view Name(ErrorCode c) {
  return kErrorCodeNames[static_cast<std::size_t>(c)];
}

}  // namespace evrelay

#endif  // EVRELAY_METRICS_REASONS_H_
