// Sets or removes a variable of the environment for as long as it lives.

#ifndef EVRELAY_TESTS_UNIT_SYSTEM_ENVIRONMENT_H_
#define EVRELAY_TESTS_UNIT_SYSTEM_ENVIRONMENT_H_

#include <stdlib.h>

#include <optional>
#include <string>

namespace evrelay {

class Variable {
 public:
  Variable(const char* name, const std::optional<std::string>& value) : name_(name) {
    if (const char* was = ::getenv(name)) before_ = was;
    Set(value);
  }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;
  ~Variable() { Set(before_); }

 private:
  void Set(const std::optional<std::string>& value) {
    if (value) {
      ::setenv(name_, value->c_str(), 1);
    } else {
      ::unsetenv(name_);
    }
  }

  const char* name_;
  std::optional<std::string> before_;
};

}  // namespace evrelay

#endif  // EVRELAY_TESTS_UNIT_SYSTEM_ENVIRONMENT_H_
