// Bytes from outside made fit for one log line. Any thread.

#ifndef EVRELAY_LOGGING_ESCAPED_H_
#define EVRELAY_LOGGING_ESCAPED_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace evrelay {

// `bytes` with control bytes, quotes, backslashes, characters that break or reorder a line and
// whatever is not UTF-8 written as \xNN. Past `max` bytes it is cut and its size is appended:
// "abc... (4711 bytes)".
std::string Escaped(std::string_view bytes, std::size_t max = 256);

// `text` as a single line: only its control bytes become \xNN.
std::string OneLine(std::string_view text);

inline bool IsControl(char c) { return (c >= 0 && c < ' ') || c == '\x7f'; }

}  // namespace evrelay

#endif  // EVRELAY_LOGGING_ESCAPED_H_
