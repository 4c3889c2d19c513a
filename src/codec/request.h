// The list frames of the producer port: requests in, answers out. Bytes only.
// Thread safety: none; the loop thread.

#ifndef EVRELAY_CODEC_REQUEST_H_
#define EVRELAY_CODEC_REQUEST_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "codec/frame.h"
#include "evrelay/ids.h"
#include "metrics/reasons.h"

namespace evrelay {

// Room that a list frame has beside the event it carries.
inline constexpr std::size_t kListOverhead = 4096;

// How long a request may be suspended.
inline constexpr std::chrono::milliseconds kMaxSuspension{3'600'000};

// The views are into the payload that was parsed.
struct Request {
  Verb verb = Verb::kPing;
  std::string_view evdata;  // 1 to max_event bytes; none for ping
  std::string_view etag;    // 1 to kMaxTag bytes; for the verbs that address a tag
  std::optional<std::chrono::milliseconds> timeout;  // async verbs: the one that was given
  ErrorCode error = ErrorCode::kCount;               // kCount: none, the request is good
  std::string error_text;  // for people: what is wrong, what would be right

  bool ok() const { return error == ErrorCode::kCount; }
};

class RequestParser {
 public:
  // `payload` is that of a list frame. kBadList is a protocol error: its connection ends.
  Request Parse(std::string_view payload, std::size_t max_event);

 private:
  std::vector<std::string_view> items_;  // kept for its capacity
};

// The events of the `relay` requests that `chunk` begins with, as far as they are in canonical form
// and alike in size: their stride is the size of a request. Of none, what comes first is something
// else, or not whole, and left to FrameReader and Parse. Producers that send requests as fast as
// they can send many of these: each costs a comparison.
AlikeFrames FindRelayRun(std::string_view chunk, std::size_t max_event);

// `evdata` with the request's numbers in the places of $T(id_index) and $T(id_label). Never longer
// than it was.
std::string FillPlaceholders(std::string_view evdata, SuspendedId request);

// Append the answers, as list frames.
void AppendOk(std::string& out);                             // ok
void AppendOk(std::string& out, std::uint64_t subscribers);  // ok N
void AppendError(std::string& out, ErrorCode code, std::string_view text);
void AppendSuspended(std::string& out, SuspendedId request);  // suspended INDEX LABEL
// The final answers to a suspended request.
void AppendResumed(std::string& out, SuspendedId request, std::string_view data);
void AppendExpired(std::string& out, SuspendedId request);
void AppendDraining(std::string& out, SuspendedId request);  // error draining INDEX LABEL

}  // namespace evrelay

#endif  // EVRELAY_CODEC_REQUEST_H_
