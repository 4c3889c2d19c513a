// How an event looks to the user of `evrelay sub` and `pub`. Pure functions of the bytes; any
// thread.

#ifndef EVRELAY_CLIENT_EVENT_FORMAT_H_
#define EVRELAY_CLIENT_EVENT_FORMAT_H_

#include <chrono>
#include <string>
#include <string_view>

namespace evrelay {

using WallTime = std::chrono::system_clock::time_point;

// The payload with all escaped that could steer a terminal (\n, \t, \r, \\, else \xNN): never more
// than one line.
void AppendEscaped(std::string& out, std::string_view payload);

// `12:00:00.123 hello` in local time, the event escaped, for a terminal.
void AppendTerminalLine(std::string& out, WallTime when, std::string_view payload);

// {"time":"2026-01-31T12:00:00.123456Z","data":"hello"}, with "data_base64" where the payload is
// not UTF-8.
void AppendJsonLine(std::string& out, WallTime when, std::string_view payload);

}  // namespace evrelay

#endif  // EVRELAY_CLIENT_EVENT_FORMAT_H_
