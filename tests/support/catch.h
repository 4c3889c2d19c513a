// Catch2, whichever major version is installed.

#ifndef EVRELAY_TESTS_SUPPORT_CATCH_H_
#define EVRELAY_TESTS_SUPPORT_CATCH_H_

#if __has_include(<catch2/catch_test_macros.hpp>)
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators_all.hpp>
#else
#include <catch2/catch.hpp>
#endif

#endif  // EVRELAY_TESTS_SUPPORT_CATCH_H_
