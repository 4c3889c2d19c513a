// What a fuzz target says about its input: a property that does not hold ends the process, so that
// libFuzzer keeps the input.

#ifndef EVRELAY_TESTS_FUZZ_CHECK_H_
#define EVRELAY_TESTS_FUZZ_CHECK_H_

#include <cstdio>
#include <cstdlib>
#include <string_view>

#define EVRELAY_CHECK(condition)                                                          \
  do {                                                                                    \
    if (!(condition)) {                                                                   \
      std::fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                       \
    }                                                                                     \
  } while (false)

// `part` is a view of bytes of `whole`.
inline bool Inside(std::string_view part, std::string_view whole) {
  return part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size();
}

#endif  // EVRELAY_TESTS_FUZZ_CHECK_H_
