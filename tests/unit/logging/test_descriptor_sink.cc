#include <fcntl.h>
#include <spdlog/common.h>
#include <spdlog/details/log_msg.h>

#include <chrono>
#include <filesystem>
#include <string>

#include "logging/descriptor_sink.h"
#include "support/catch.h"
#include "support/temporary_directory.h"
#include "unit/logging/captured_stderr.h"

namespace evrelay {
namespace {

using Clock = std::chrono::steady_clock;

// One page: the smallest pipe there is.
struct SmallPipe {
  SmallPipe() {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    out = UniqueFd(ends[0]);
    in = UniqueFd(ends[1]);
    REQUIRE(::fcntl(in.get(), F_SETPIPE_SZ, 4096) == 4096);
  }
  std::string Take() {
    char bytes[4096];
    const ssize_t n = ::read(out.get(), bytes, sizeof(bytes));
    REQUIRE(n >= 0);
    return {bytes, static_cast<std::size_t>(n)};
  }
  UniqueFd out;
  UniqueFd in;
};

// A view of `text`.
spdlog::details::log_msg Message(std::string_view text) {
  return {"test", spdlog::level::info, text};
}

void Fill(int fd) {
  const std::string page(4096, '.');
  REQUIRE(::write(fd, page.data(), page.size()) == 4096);
}

}  // namespace

TEST_CASE("a full pipe costs one line 100 ms and the next ones nothing") {
  SmallPipe pipe;
  DescriptorSink sink(pipe.in.get());
  Fill(pipe.in.get());
  const Clock::time_point start = Clock::now();
  CHECK_THROWS_AS(sink.log(Message("lost")), spdlog::spdlog_ex);
  CHECK(Clock::now() - start >= std::chrono::milliseconds(100));
  for (int i = 0; i < 100; ++i) CHECK_THROWS_AS(sink.log(Message("lost")), spdlog::spdlog_ex);
  CHECK(Clock::now() - start < std::chrono::seconds(5));

  pipe.Take();
  sink.log(Message("back again"));
  CHECK(WithoutTime(pipe.Take()) == "info test: back again\n");
}

TEST_CASE("a sink in a hurry does not wait at all") {
  SmallPipe pipe;
  Fill(pipe.in.get());
  const Clock::time_point start = Clock::now();
  for (int i = 0; i < 50; ++i) {
    DescriptorSink sink(pipe.in.get());
    sink.Hurry();
    CHECK_THROWS_AS(sink.log(Message("lost")), spdlog::spdlog_ex);
  }
  CHECK(Clock::now() - start < std::chrono::seconds(4));
}

TEST_CASE("the line after a torn one begins on a line of its own") {
  SmallPipe pipe;
  DescriptorSink sink(pipe.in.get());
  CHECK_THROWS_AS(sink.log(Message(std::string(6000, 'x'))), spdlog::spdlog_ex);
  CHECK(pipe.Take().size() == 4096);
  sink.log(Message("whole"));
  const std::string after = pipe.Take();
  CHECK(after.front() == '\n');
  CHECK(WithoutTime(after) == "info test: whole\n");
  sink.log(Message("next"));
  CHECK(pipe.Take().front() == '2');
}

TEST_CASE("the shared flags of the descriptor stay as they are") {
  for (const int flags : {0, O_NONBLOCK}) {
    SmallPipe pipe;
    REQUIRE(::fcntl(pipe.in.get(), F_SETFL, flags) == 0);
    const int before = ::fcntl(pipe.in.get(), F_GETFL);
    DescriptorSink sink(pipe.in.get());
    sink.log(Message("text"));
    CHECK(::fcntl(pipe.in.get(), F_GETFL) == before);
    CHECK(WithoutTime(pipe.Take()) == "info test: text\n");
  }
}

TEST_CASE("a closed descriptor and a pipe without reader are errors") {
  DescriptorSink none(-1);
  CHECK_THROWS_AS(none.log(Message("lost")), spdlog::spdlog_ex);

  DescriptorSink full(std::string("/dev/full"));
  CHECK_THROWS_AS(full.log(Message("lost")), spdlog::spdlog_ex);
}

TEST_CASE("lines made before a reopen go to the old file") {
  const TemporaryDirectory directory;
  const std::string path = directory / "log";
  DescriptorSink sink(path);
  sink.set_pattern("%v");
  const spdlog::details::log_msg before = Message("before");
  std::filesystem::rename(path, path + ".1");
  sink.Reopen();
  sink.log(before);
  sink.log(Message("after"));
  CHECK(std::filesystem::file_size(path + ".1") == 7);
  CHECK(std::filesystem::file_size(path) == 6);
}

TEST_CASE("a pattern and a formatter can be set") {
  SmallPipe pipe;
  DescriptorSink sink(pipe.in.get());
  sink.set_pattern("%v!");
  sink.log(Message("text"));
  CHECK(pipe.Take() == "text!\n");
}

}  // namespace evrelay
