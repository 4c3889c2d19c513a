// The list frames of the producer port: requests in, answers out. Bytes only.
// Thread safety: none; the loop thread.

#ifndef EVRELAY_CODEC_REQUEST_H_
#define EVRELAY_CODEC_REQUEST_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "metrics/reasons.h"

namespace evrelay {

enum class Verb : std::uint8_t { kRelay, kPing };

// In the order of Verb; also the words of producer.allow's `verbs`.
inline constexpr std::array<std::string_view, 2> kVerbNames{"relay", "ping"};

// Room that a list frame has beside the event it carries.
inline constexpr std::size_t kListOverhead = 4096;

struct Request {
  Verb verb = Verb::kPing;
  std::string_view evdata;  // relay: 1 to max_event bytes, a view into the payload that was parsed
  ErrorCode error = ErrorCode::kCount;  // kCount: none, the request is good
  std::string error_text;               // for people: what is wrong, what would be right

  bool ok() const { return error == ErrorCode::kCount; }
};

class RequestParser {
 public:
  // `payload` is that of a list frame. kBadList is a protocol error: its connection ends.
  Request Parse(std::string_view payload, std::size_t max_event);

 private:
  std::vector<std::string_view> items_;  // kept for its capacity
};

// Append the answers, as list frames: `ok`, `ok N`, `error CODE TEXT`.
void AppendOk(std::string& out);
void AppendOk(std::string& out, std::uint64_t subscribers);
void AppendError(std::string& out, ErrorCode code, std::string_view text);

}  // namespace evrelay

#endif  // EVRELAY_CODEC_REQUEST_H_
