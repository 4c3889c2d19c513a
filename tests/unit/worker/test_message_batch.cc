#include <string>
#include <string_view>

#include "support/catch.h"
#include "worker/task.h"

namespace evrelay {
namespace {

using namespace std::string_view_literals;

TEST_CASE("a batch gives back each message as it was") {
  MessageBatch batch;
  CHECK(batch.empty());
  CHECK(batch.size() == 0);

  const std::string large(70'000, 'x');
  batch.Add("one");
  batch.Add("");
  batch.Add("\0,\n"sv);
  batch.Add(large);
  CHECK_FALSE(batch.empty());
  REQUIRE(batch.size() == 4);
  CHECK(batch.bytes() == 3 + 0 + 3 + large.size());
  CHECK(batch[0] == "one");
  CHECK(batch[1].empty());
  CHECK(batch[2] == "\0,\n"sv);
  CHECK(batch[3] == large);
}

}  // namespace
}  // namespace evrelay
