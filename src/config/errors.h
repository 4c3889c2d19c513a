// What is wrong with one configuration file: a list of texts, each with its place. Texts say what
// is wrong and what would be right, "WHAT; give RIGHT".
//
// An error is noted in Errors and the reading goes on; a Failure is thrown and ends it.

#ifndef EVRELAY_CONFIG_ERRORS_H_
#define EVRELAY_CONFIG_ERRORS_H_

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace evrelay {

// Where something stands in the file; counts from 1, columns in bytes. Line 0: the whole file.
struct Place {
  int line = 0;
  int column = 0;
};

// Ends the reading of this file.
struct Failure {
  Place at;
  std::string text;
};

class Errors {
 public:
  void Add(Place at, std::string text) { list_.push_back({at, std::move(text)}); }
  std::size_t size() const { return list_.size(); }

  // "FILE:LINE:COLUMN: text" with `name` as FILE, in the order of the file; the first 100, and how
  // many more there are.
  std::vector<std::string> Lines(const std::string& name) const;

 private:
  std::vector<Failure> list_;
};

}  // namespace evrelay

#endif  // EVRELAY_CONFIG_ERRORS_H_
