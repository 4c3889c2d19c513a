#include <optional>
#include <utility>
#include <vector>

#include "net/address.h"
#include "net/peer_counts.h"
#include "unit/net/net_test.h"

namespace evrelay {
namespace {

using Place = PeerCounts::Place;

}  // namespace

TEST_CASE("peer counts: an address has so many places, whatever its ports") {
  PeerCounts counts;
  std::optional<Place> first = counts.Take(Ipv4("192.0.2.1", 1), 2);
  std::optional<Place> second = counts.Take(Ipv4("192.0.2.1", 2), 2);
  CHECK(first);
  CHECK(second);
  CHECK_FALSE(counts.Take(Ipv4("192.0.2.1", 3), 2));
  CHECK(counts.Take(Ipv4("192.0.2.2", 3), 2));
  first.reset();
  std::optional<Place> third = counts.Take(Ipv4("192.0.2.1", 4), 2);
  CHECK(third);
  CHECK_FALSE(counts.Take(Ipv4("192.0.2.1", 5), 2));
}

TEST_CASE("peer counts: what moves is counted once, and nothing is left behind") {
  PeerCounts counts;
  {
    std::optional<Place> place = counts.Take(Ipv4("192.0.2.1", 1), 1);
    REQUIRE(place);
    Place moved = std::move(*place);
    place.reset();
    CHECK_FALSE(counts.Take(Ipv4("192.0.2.1", 2), 1));
    std::vector<Place> kept;
    kept.push_back(std::move(moved));
    CHECK_FALSE(counts.Take(Ipv4("192.0.2.1", 2), 1));
    CHECK(counts.addresses() == 1);
  }
  CHECK(counts.addresses() == 0);
  CHECK(counts.Take(Ipv4("192.0.2.1", 2), 1));
}

TEST_CASE("peer counts: 0 is no limit, but counts: a limit may come later") {
  PeerCounts counts;
  std::vector<Place> places;
  for (std::uint16_t port = 1; port <= 100; ++port) {
    std::optional<Place> place = counts.Take(Ipv4("192.0.2.1", port), 0);
    REQUIRE(place);
    places.push_back(std::move(*place));
  }
  CHECK(counts.addresses() == 1);
  CHECK_FALSE(counts.Take(Ipv4("192.0.2.1", 101), 100));
  CHECK(counts.Take(Ipv4("192.0.2.1", 101), 101));
}

TEST_CASE("peer counts: IPv6 addresses count one by one, and apart from IPv4") {
  PeerCounts counts;
  const std::optional<Place> one = counts.Take(Ipv6("2001:db8::1", 1), 1);
  CHECK(one);
  CHECK_FALSE(counts.Take(Ipv6("2001:db8::1", 2), 1));
  CHECK(counts.Take(Ipv6("2001:db8::2", 1), 1));
  // The same four bytes first.
  CHECK(counts.Take(Ipv4("32.1.13.184", 1), 1));
  // A peer of a socket that serves both families is the IPv4 peer that it is.
  const std::optional<Place> mapped = counts.Take(Ipv6("::ffff:192.0.2.1", 1), 1);
  CHECK(mapped);
  CHECK_FALSE(counts.Take(Ipv4("192.0.2.1", 2), 1));
}

TEST_CASE("peer counts: Unix peers are not counted") {
  PeerCounts counts;
  const std::optional<Place> one = counts.Take(SocketAddress(), 1);
  const std::optional<Place> two = counts.Take(SocketAddress(), 1);
  CHECK(one);
  CHECK(two);
  CHECK(counts.addresses() == 0);
}

}  // namespace evrelay
