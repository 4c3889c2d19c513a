#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "logging/log.h"
#include "support/catch.h"
#include "support/temporary_directory.h"
#include "unit/logging/captured_stderr.h"

namespace evrelay {
namespace {

using namespace std::string_literals;
constexpr char kReopened[] = "info logging: asked to reopen the log file";

using Clock = std::chrono::steady_clock;

LogConfig To(const std::string& target, LogLevel level = LogLevel::kInfo) {
  LogConfig config;
  config.level = level;
  config.target = target;
  return config;
}

// Not time(), which lags a tick behind.
std::time_t Now() { return std::chrono::system_clock::to_time_t(std::chrono::system_clock::now()); }

std::string Contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  REQUIRE(file);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> TextLines(const std::string& log) {
  std::vector<std::string> texts;
  for (const std::string& line : Lines(log)) texts.push_back(WithoutTime(line));
  return texts;
}

std::string ErrorOf(const LogConfig& config) {
  try {
    SetUpLogging(config);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  ShutDownLogging();
  return "";
}

// How many lines the notices in `texts` report; the notices are taken out.
std::uint64_t TakeLost(std::vector<std::string>& texts) {
  static const std::regex notice(
      "warn logging: ([0-9]+) log lines were lost as they could not be written in time");
  std::uint64_t lost = 0;
  std::vector<std::string> others;
  for (const std::string& text : texts) {
    std::smatch match;
    if (std::regex_match(text, match, notice)) {
      lost += std::stoull(match[1]);
    } else {
      others.push_back(text);
    }
  }
  texts = others;
  return lost;
}

}  // namespace

TEST_CASE("a line has time, level, folder and text") {
  ::setenv("TZ", "Asia/Kolkata", 1);  // must not matter
  ::tzset();
  CapturedStderr captured;
  const std::time_t before = Now();
  SetUpLogging(To("stderr", LogLevel::kDebug));
  LogDebug("net", "one {}", 1);
  LogInfo("subscriber", "two {}", "2");
  LogWarn("relay", "three");
  LogError("daemon", "{:02}", 4);
  ShutDownLogging();
  const std::time_t after = Now();
  ::unsetenv("TZ");
  ::tzset();

  const std::vector<std::string> lines = Lines(captured.Take());
  REQUIRE(lines.size() == 4);
  const std::regex form(R"((\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.\d{6}Z .*)");
  for (const std::string& line : lines) {
    std::smatch match;
    REQUIRE(std::regex_match(line, match, form));
    std::tm utc{};
    REQUIRE(::strptime(match[1].str().c_str(), "%Y-%m-%dT%H:%M:%S", &utc) != nullptr);
    const std::time_t time = ::timegm(&utc);
    CHECK(time >= before);
    CHECK(time <= after);
  }
  CHECK(WithoutTime(lines[0]) == "debug net: one 1");
  CHECK(WithoutTime(lines[1]) == "info subscriber: two 2");
  CHECK(WithoutTime(lines[2]) == "warn relay: three");
  CHECK(WithoutTime(lines[3]) == "error daemon: 04");
}

TEST_CASE("lines below the level are left out") {
  CapturedStderr captured;
  SetUpLogging(To("stderr", LogLevel::kWarn));
  LogInfo("test", "no");
  LogWarn("test", "yes");
  CHECK_FALSE(LogEnabled(LogLevel::kInfo));
  SetLogLevel(LogLevel::kError);
  LogWarn("test", "no");
  LogError("test", "yes");
  SetLogLevel(LogLevel::kDebug);
  LogDebug("test", "yes");
  ShutDownLogging();
  SetLogLevel(LogLevel::kInfo);
  CHECK(TextLines(captured.Take()) ==
        std::vector<std::string>{"warn test: yes", "error test: yes", "debug test: yes"});
}

TEST_CASE("without set-up lines go to stderr at once") {
  CapturedStderr captured;
  ShutDownLogging();  // the next line looks where stderr is now
  LogInfo("test", "early {}", 1);
  char line[256];
  const ssize_t n = ::read(captured.read_end(), line, sizeof(line));
  REQUIRE(n > 0);
  CHECK(WithoutTime(std::string(line, static_cast<std::size_t>(n))) == "info test: early 1\n");
  captured.Restore();
  ShutDownLogging();
}

TEST_CASE("a line stays one line whatever it is given") {
  CapturedStderr captured;
  SetUpLogging(To("stderr"));
  LogInfo("test", "{}", "a\n2026-01-01T00:00:00.000000Z info forged: b\0c\x1b[2J"s);
  ShutDownLogging();
  CHECK(TextLines(captured.Take()) ==
        std::vector<std::string>{
            "info test: a\\x0a2026-01-01T00:00:00.000000Z info forged: b\\x00c\\x1b[2J"});
}

TEST_CASE("a limited place says how much it kept back") {
  CapturedStderr captured;
  SetUpLogging(To("stderr"));
  static LogLimit limit;
  for (int i = 0; i < 10; ++i) LogWarnLimited(limit, "test", "line {}", i);
  ShutDownLogging();
  std::vector<std::string> texts = TextLines(captured.Take());
  REQUIRE(texts.size() == 10);
  CHECK(texts.front() == "warn test: line 0");
  CHECK(texts.back() == "warn test: line 9");

  LogLimit used_up;
  const Clock::time_point a_second_ago = Clock::now() - std::chrono::seconds(1);
  for (int i = 0; i < 15; ++i) used_up.Allow(a_second_ago);
  CapturedStderr again;
  SetUpLogging(To("stderr"));
  LogInfoLimited(used_up, "test", "more");
  LogErrorLimited(used_up, "test", "and more");
  ShutDownLogging();
  CHECK(TextLines(again.Take()) ==
        std::vector<std::string>{"info test: more (5 more suppressed)", "error test: and more"});
}

TEST_CASE("lines below the level do not use up a limit") {
  LogLimit limit;
  SetLogLevel(LogLevel::kError);
  for (int i = 0; i < 50; ++i) LogWarnLimited(limit, "test", "not written");
  SetLogLevel(LogLevel::kInfo);
  CHECK(limit.TakeSuppressed() == 0);
  CHECK(limit.Allow());
}

TEST_CASE("a file is appended to and can be rotated") {
  const TemporaryDirectory directory;
  const std::string path = directory / "log";
  std::ofstream(path) << "what was there\n";
  SetUpLogging(To(path));
  LogInfo("test", "first");
  std::filesystem::rename(path, path + ".1");
  LogInfo("test", "second");
  ReopenLogFile();
  LogInfo("test", "third");
  ShutDownLogging();
  const std::vector<std::string> old = Lines(Contents(path + ".1"));
  REQUIRE(old.size() == 3);
  CHECK(old[0] == "what was there");
  CHECK(WithoutTime(old[1]) == "info test: first");
  CHECK(WithoutTime(old[2]) == "info test: second");
  CHECK(TextLines(Contents(path)) == std::vector<std::string>{kReopened, "info test: third"});
}

TEST_CASE("reopening waits for no further line") {
  const TemporaryDirectory directory;
  const std::string path = directory / "log";
  SetUpLogging(To(path));
  std::filesystem::rename(path, path + ".1");
  ReopenLogFile();
  ShutDownLogging();
  CHECK(TextLines(Contents(path)) == std::vector<std::string>{kReopened});
  CHECK(Contents(path + ".1").empty());
}

TEST_CASE("a log file that cannot be opened again is kept") {
  const TemporaryDirectory directory;
  const std::string path = directory / "log";
  SetUpLogging(To(path));
  std::filesystem::rename(path, path + ".1");
  std::filesystem::create_directory(path);
  ReopenLogFile();
  LogInfo("test", "still here");
  ShutDownLogging();
  CHECK(TextLines(Contents(path + ".1")) ==
        std::vector<std::string>{"error logging: cannot open the log file " + path +
                                     ": Is a directory; going on with the old file",
                                 kReopened, "info test: still here"});
}

TEST_CASE("reopening means nothing to other targets") {
  ReopenLogFile();
  CapturedStderr captured;
  SetUpLogging(To("stderr"));
  ReopenLogFile();
  LogInfo("test", "text");
  ShutDownLogging();
  CHECK(TextLines(captured.Take()) == std::vector<std::string>{"info test: text"});
}

TEST_CASE("a target that cannot be used is an error and changes nothing") {
  const TemporaryDirectory directory;
  const std::string path = directory / "log";
  SetUpLogging(To(path));
  CHECK_THROWS_WITH(
      SetUpLogging(To(directory / "missing/log", LogLevel::kError)),
      "cannot open the log file " + (directory / "missing/log") + ": No such file or directory");
  LogInfo("test", "to the first");
  ShutDownLogging();
  CHECK(TextLines(Contents(path)) == std::vector<std::string>{"info test: to the first"});

  CHECK(ErrorOf(To("log/evrelay")) ==
        "log.target: log/evrelay is none of stderr, syslog, journald, a file's absolute path");
}

TEST_CASE("the target can be changed") {
  const TemporaryDirectory directory;
  SetUpLogging(To(directory / "a"));
  for (int i = 0; i < 100; ++i) LogInfo("test", "{}", i);
  SetUpLogging(To(directory / "b"));
  LogInfo("test", "last");
  ShutDownLogging();
  CHECK(Lines(Contents(directory / "a")).size() == 100);
  CHECK(TextLines(Contents(directory / "b")) == std::vector<std::string>{"info test: last"});
}

TEST_CASE("journald is used where it runs and an error elsewhere") {
  const std::string error = ErrorOf(To("journald"));
  if (!error.empty()) {
    CHECK(error.starts_with("log.target: "));
    CHECK(error.find("journald") != error.npos);
    CHECK(error.ends_with("use stderr, syslog or a file"));
  }
}

TEST_CASE("syslog lines do not go to stderr") {
  CapturedStderr captured;
  SetUpLogging(To("syslog"));
  ReopenLogFile();
  LogInfo("test", "to syslog");
  ShutDownLogging();
  CHECK(captured.Take().empty());
}

TEST_CASE("a full pipe holds nobody up, and every lost line is counted") {
  constexpr std::uint64_t kLines = 20'000;
  CapturedStderr captured;
  REQUIRE(::fcntl(captured.read_end(), F_SETPIPE_SZ, 4096) == 4096);
  SetUpLogging(To("stderr"));
  const Clock::time_point start = Clock::now();
  for (std::uint64_t i = 0; i < kLines; ++i) LogInfo("test", "line {}", i);
  CHECK(Clock::now() - start < std::chrono::seconds(10));

  captured.Restore();
  std::string log;
  std::thread reader([&] { log = CapturedStderr::ReadToEnd(captured.read_end()); });
  LogInfo("test", "last");
  ShutDownLogging();
  reader.join();
  std::vector<std::string> texts = TextLines(log);
  const std::uint64_t lost = TakeLost(texts);
  CHECK(lost >= kLines - 4096 - 4096 / 40);
  CHECK(texts.size() + lost == kLines + 1);
  CHECK(texts.back() == "info test: last");
}

TEST_CASE("a pipe that nobody reads does not hold up the shutdown") {
  CapturedStderr captured;
  REQUIRE(::fcntl(captured.read_end(), F_SETPIPE_SZ, 4096) == 4096);
  SetUpLogging(To("stderr"));
  for (int i = 0; i < 4000; ++i) LogInfo("test", "line {}", i);
  const Clock::time_point start = Clock::now();
  ShutDownLogging();
  CHECK(Clock::now() - start < std::chrono::seconds(5));
}

TEST_CASE("a target that hangs in a write does not hold up the shutdown") {
  // A socket with the least of buffers polls writable when it holds a short line, and hangs in the
  // middle of a long one.
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  const UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  const int least = 0;
  REQUIRE(::setsockopt(writer.get(), SOL_SOCKET, SO_SNDBUF, &least, sizeof(least)) == 0);
  {
    const UniqueFd saved(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0));
    REQUIRE(::dup2(writer.get(), STDERR_FILENO) == STDERR_FILENO);
    SetUpLogging(To("stderr"));
    REQUIRE(::dup2(saved.get(), STDERR_FILENO) == STDERR_FILENO);
  }
  writer.Close();
  LogInfo("test", "short");
  LogInfo("test", "{}", std::string(3000, 'x'));
  const Clock::time_point start = Clock::now();
  ShutDownLogging();
  CHECK(Clock::now() - start < std::chrono::seconds(5));
  char bytes[8192];
  const ssize_t n = ::recv(reader.get(), bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);
  REQUIRE(n > 0);
  const std::string written(bytes, static_cast<std::size_t>(n));
  CHECK(written.find("info test: short\n") != written.npos);
  if (written.ends_with("x\n")) WARN("this kernel took the long line at once: nothing hung");

  // The log works on without that thread.
  const TemporaryDirectory directory;
  SetUpLogging(To(directory / "log"));
  LogInfo("test", "text");
  ShutDownLogging();
  CHECK(TextLines(Contents(directory / "log")) == std::vector<std::string>{"info test: text"});
}

TEST_CASE("threads log while everything changes") {
  constexpr int kThreads = 4;
  constexpr int kLines = 2000;
  constexpr int kReopens = 20;  // each logs a line of its own
  const TemporaryDirectory directory;
  const std::string path = directory / "log";
  SetUpLogging(To(path));
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([t] {
      for (int i = 0; i < kLines; ++i) LogError("test", "thread {} line {}", t, i);
    });
  }
  for (int i = 0; i < kReopens; ++i) {
    ReopenLogFile();
    SetLogLevel(i % 2 == 0 ? LogLevel::kDebug : LogLevel::kInfo);
    if (i % 5 == 0) SetUpLogging(To(path));
  }
  for (std::thread& thread : threads) thread.join();
  ShutDownLogging();
  std::vector<std::string> texts = TextLines(Contents(path));
  const std::uint64_t lost = TakeLost(texts);
  CHECK(texts.size() + lost == kThreads * kLines + kReopens);
  const std::regex form("error test: thread [0-3] line [0-9]+|"s + kReopened);
  for (const std::string& text : texts) {
    if (!std::regex_match(text, form)) FAIL(text);
  }
}

}  // namespace evrelay
