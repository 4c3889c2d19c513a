// Catch2 v2 has no main of its own; v3 brings one, with the TAP reporter built in.

#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
#include <catch2/catch_reporter_tap.hpp>
