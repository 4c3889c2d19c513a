#include "config/errors.h"

#include <algorithm>

namespace evrelay {
namespace {

constexpr std::size_t kMaxLines = 100;

}  // namespace

std::vector<std::string> Errors::Lines(const std::string& name) const {
  std::vector<Failure> sorted = list_;
  std::ranges::stable_sort(sorted, [](const Failure& a, const Failure& b) {
    return std::pair(a.at.line, a.at.column) < std::pair(b.at.line, b.at.column);
  });
  std::vector<std::string> lines;
  for (const Failure& error : sorted) {
    if (lines.size() == kMaxLines) {
      lines.push_back(name + ": " + std::to_string(sorted.size() - kMaxLines) +
                      " more errors are not shown");
      break;
    }
    std::string line = name + ":";
    if (error.at.line > 0) {
      line += std::to_string(error.at.line) + ":" + std::to_string(error.at.column) + ":";
    }
    lines.push_back(line + " " + error.text);
  }
  return lines;
}

}  // namespace evrelay
