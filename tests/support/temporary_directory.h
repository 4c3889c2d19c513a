// A directory of its own for a test; goes with all that is in it.

#ifndef EVRELAY_TESTS_SUPPORT_TEMPORARY_DIRECTORY_H_
#define EVRELAY_TESTS_SUPPORT_TEMPORARY_DIRECTORY_H_

#include <stdlib.h>

#include <filesystem>
#include <string>
#include <system_error>

#include "support/catch.h"

namespace evrelay {

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    path_ = (std::filesystem::temp_directory_path() / "evrelay-XXXXXX").string();
    REQUIRE(::mkdtemp(path_.data()) != nullptr);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace evrelay

#endif  // EVRELAY_TESTS_SUPPORT_TEMPORARY_DIRECTORY_H_
