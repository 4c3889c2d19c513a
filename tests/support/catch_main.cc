// Catch2 v2 has no main of its own; v3 brings one.

#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
