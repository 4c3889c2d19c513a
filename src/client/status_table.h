// The status document as people like to read it. Pure functions of the document.

#ifndef EVRELAY_CLIENT_STATUS_TABLE_H_
#define EVRELAY_CLIENT_STATUS_TABLE_H_

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace evrelay {

// What is going on now and what has happened, a line a subject. What is zero is left out, as are
// figures that say nothing to people; what deserves a look has a `!` in front of its line.
std::string StatusTable(const nlohmann::ordered_json& status);

}  // namespace evrelay

#endif  // EVRELAY_CLIENT_STATUS_TABLE_H_
