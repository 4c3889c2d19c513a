// The configuration as plain values, with the defaults that the manual states. Filled by
// load_yaml and the command line, const afterwards; a reload builds a new one.

#ifndef EVRELAY_CONFIG_CONFIG_H_
#define EVRELAY_CONFIG_CONFIG_H_

#include <sys/types.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace evrelay {

inline constexpr std::uint64_t kKiB = 1024;
inline constexpr std::uint64_t kMiB = 1024 * kKiB;

// What becomes of a subscriber that sent a malformed frame.
enum class BadFrame : std::uint8_t { kClose, kDiscard };

// What becomes of a subscriber whose lag has reached max_lag.
enum class SlowPolicy : std::uint8_t { kDisconnect, kSkip, kBlock };

enum class LogLevel : std::uint8_t { kDebug, kInfo, kWarn, kError };

// Who may use the producer port. A rule matches when every id it names is the peer's.
struct AllowRule {
  std::optional<uid_t> uid;
  std::optional<gid_t> gid;        // the peer's primary or one of its supplementary groups
  std::vector<std::string> verbs;  // empty: all

  friend bool operator==(const AllowRule&, const AllowRule&) = default;
};

// IP addresses that begin with the same bits.
struct Network {
  bool ipv6 = false;
  std::uint8_t bits = 0;  // 0 to 32, or to 128
  std::array<unsigned char, 16>
      ip{};  // network byte order, 0 after `bits`; IPv4 has the first four

  friend bool operator==(const Network&, const Network&) = default;
};

enum class TlsVersion : std::uint8_t { k12, k13 };

// Paths of PEM files.
struct TlsConfig {
  std::string cert;       // the certificate, and what leads to its root
  std::string key;        // its private key
  std::string client_ca;  // who signs subscribers' certificates; empty: none are asked for
  TlsVersion min = TlsVersion::k12;

  friend bool operator==(const TlsConfig&, const TlsConfig&) = default;
};

// A listener of the subscriber port.
struct ListenConfig {
  std::string addr;            // HOST:PORT, [IPV6]:PORT or unix:/path
  std::vector<Network> allow;  // empty: everyone
  std::optional<TlsConfig> tls;

  friend bool operator==(const ListenConfig&, const ListenConfig&) = default;
};

struct ProducerConfig {
  std::string socket;  // empty until DefaultSocketPath has been applied
  mode_t mode = 0660;
  std::optional<uid_t> user;  // none: the process's own
  std::optional<gid_t> group;
  std::uint32_t max_connections = 256;
  std::vector<AllowRule> allow;  // empty: whoever may open the socket
};

struct ControlConfig {
  std::string socket;  // empty: control.sock beside the producer's
  mode_t mode = 0600;
};

struct HookConfig {
  std::chrono::milliseconds timeout{50};  // of a worker's CPU time, one call
  std::uint64_t memory = 16 * kMiB;       // bytes, one Lua state
  bool patterns = true;                   // Lua's pattern functions are there
};

struct SlowSubscriberConfig {
  std::uint64_t max_lag = 16 * kMiB;  // bytes
  SlowPolicy policy = SlowPolicy::kDisconnect;
  std::chrono::milliseconds stall_timeout{30'000};
};

struct AsyncConfig {
  std::chrono::milliseconds timeout{30'000};  // of a suspended request that names none
  std::uint32_t max_suspended = 10'000;       // of all producers; each may hold a quarter
};

struct LogConfig {
  LogLevel level = LogLevel::kInfo;
  std::string target = "stderr";  // stderr | syslog | journald | a file's absolute path
};

struct Config {
  std::vector<ListenConfig> bind_addr{{"127.0.0.1:8448", {}, {}}};
  std::uint32_t workers = 1;  // threads that run hooks
  std::uint32_t max_clients = 1024;
  std::uint32_t max_clients_per_ip = 0;  // 0: no limit
  std::uint32_t accept_rate = 0;         // subscribers let in a second; 0: no limit
  bool netstring_format = true;
  BadFrame bad_frame = BadFrame::kClose;
  std::uint32_t max_message = 64 * kKiB;            // bytes, one message from a subscriber
  std::uint32_t max_event = 1 * kMiB;               // bytes, one event from a producer
  std::chrono::milliseconds frame_timeout{10'000};  // from the first to the last byte of one frame
  std::optional<std::uint32_t> send_buffer;         // bytes of SO_SNDBUF; none: auto
  std::string script;                               // path of the hook; empty: none
  std::string event_callback;  // Lua function for events without an event_route; empty: none
  HookConfig hook;
  ProducerConfig producer;
  ControlConfig control;
  SlowSubscriberConfig slow_subscriber;
  AsyncConfig async;
  LogConfig log;
  std::chrono::milliseconds drain{10'000};
};

}  // namespace evrelay

#endif  // EVRELAY_CONFIG_CONFIG_H_
