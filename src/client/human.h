// Numbers and tables as people like to read them. Pure functions.

#ifndef EVRELAY_CLIENT_HUMAN_H_
#define EVRELAY_CLIENT_HUMAN_H_

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace evrelay {

// "812 B", "1.2 KiB", "16 MiB".
std::string HumanBytes(std::uint64_t bytes);

// The two largest units that there are: "45s", "2m 10s", "3d 4h".
std::string HumanTime(std::chrono::seconds time);

// A cell is text that has been escaped; its width is that of its code points.
using TableRow = std::vector<std::string>;

// Columns two blanks apart, one row a line, each as wide as its widest cell. A column is set flush
// right when `right` says so; it may be shorter than a row. No blanks stand at the end of a line.
std::string AlignedTable(const std::vector<TableRow>& rows, const std::vector<bool>& right);

}  // namespace evrelay

#endif  // EVRELAY_CLIENT_HUMAN_H_
