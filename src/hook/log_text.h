// What a script says, made fit for one log line. Any thread.

#ifndef EVRELAY_HOOK_LOG_TEXT_H_
#define EVRELAY_HOOK_LOG_TEXT_H_

#include <string>
#include <string_view>

namespace evrelay {

// `text` may hold bytes from outside: all that could forge or garble a line is escaped, as Escaped
// does it, but quotes and backslashes stay, so that messages and JSON can be read. A line break at
// the end is taken off; what is longer than 4 KiB is cut.
std::string LogText(std::string_view text);

}  // namespace evrelay

#endif  // EVRELAY_HOOK_LOG_TEXT_H_
