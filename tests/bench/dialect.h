// What the wire of one server looks like to the load: what subscribers and producers say and hear
// before the first event, and what stands around an event on its way in and out. The channel of all
// events is "e" where there are channels.

#ifndef EVRELAY_TESTS_BENCH_DIALECT_H_
#define EVRELAY_TESTS_BENCH_DIALECT_H_

#include <cstddef>
#include <stdexcept>
#include <string>

#include "evrelay/netstring.h"
#include "pattern.h"

namespace bench {

// An exchange before the first event.
struct Greeting {
  std::string say = {};
  std::string hear = {};  // how the answer ends; empty: there is none
};

struct Dialect {
  Envelope sent;           // an event of a producer
  Envelope received;       // the same at a subscriber
  std::string reply = {};  // what the producer hears for each event; empty: nothing

  Greeting subscriber = {};
  Greeting producer = {};
  // What the server asks of everyone on its own, kQuiet seconds after the greeting or later, and
  // the answer; empty: nothing.
  std::string question = {};
  std::string answer = {};
  static constexpr double kQuiet = 2;

  // Subscribers whose greetings may be without an answer: what the server's listening socket holds,
  // and never more than this.
  std::size_t at_once = 1000;
  // Bytes, 0: no bound. Otherwise a send is whole events and not longer.
  std::size_t whole_sends = 0;
};

inline Dialect EvrelayDialect(std::size_t size) {
  return {.sent = Netstring(size), .received = Netstring(size)};
}

// Each event as the list frame "relay EVENT".
inline Dialect RequestsDialect(std::size_t size, std::size_t subscribers) {
  const std::string frame = evrelay::netstring::EncodeList({"relay", std::string(size, '\0')});
  const std::size_t at = frame.find('\0');
  return {.sent = {frame.substr(0, at), frame.substr(at + size)},
          .received = Netstring(size),
          .reply = evrelay::netstring::EncodeList({"ok", std::to_string(subscribers)})};
}

// evapi greets nobody; peer_servers.py lets an event route do it. It listens with a backlog of 4,
// and reads up to 32,767 bytes at once: what ends inside a header there is lost.
inline Dialect KamailioDialect(std::size_t size) {
  return {.sent = Netstring(size),
          .received = Netstring(size),
          .subscriber = {"", "2:ok,"},
          .at_once = 4,
          .whole_sends = 32 * 1024 - 1};
}

// A server pings each client 2 to 2.4 s after it came, and then every two minutes.
inline Dialect NatsDialect(std::size_t size) {
  const std::string connect = "CONNECT {\"verbose\":false,\"pedantic\":false}\r\n";
  return {.sent = {"PUB e " + std::to_string(size) + "\r\n", "\r\n"},
          .received = {"MSG e 1 " + std::to_string(size) + "\r\n", "\r\n"},
          .subscriber = {connect + "SUB e 1\r\nPING\r\n", "PONG\r\n"},
          .producer = {connect + "PING\r\n", "PONG\r\n"},
          .question = "PING\r\n",
          .answer = "PONG\r\n"};
}

// RESP 2.
inline Dialect RedisDialect(std::size_t size) {
  const std::string bulk = '$' + std::to_string(size) + "\r\n";
  return {.sent = {"*3\r\n$7\r\nPUBLISH\r\n$1\r\ne\r\n" + bulk, "\r\n"},
          .received = {"*3\r\n$7\r\nmessage\r\n$1\r\ne\r\n" + bulk, "\r\n"},
          .subscriber = {"SUBSCRIBE e\r\n", "$9\r\nsubscribe\r\n$1\r\ne\r\n:1\r\n"},
          .producer = {"CLIENT REPLY OFF\r\n"}};
}

// MQTT 3.1.1, QoS 0. A broker's PUBLISH has the bytes of the producer's.
inline Dialect MqttDialect(std::size_t size) {
  using namespace std::string_literals;
  const std::string connect = "\x10\x0C\x00\x04MQTT\x04\x02\x00\x00\x00\x00"s;
  const std::string connected = "\x20\x02\x00\x00"s;
  const std::string topic = "\x00\x01"s + "e";
  std::string header = "\x30";
  std::size_t left = topic.size() + size;
  for (; left >= 128; left /= 128) header.push_back(static_cast<char>(left % 128 | 128));
  header.push_back(static_cast<char>(left));
  header += topic;
  return {.sent = {header, ""},
          .received = {header, ""},
          .subscriber = {connect + "\x82\x06\x00\x01\x00\x01"s + "e\x00"s,
                         connected + "\x90\x03\x00\x01\x00"s},
          .producer = {connect, connected},
          .at_once = 100};
}

// `size`: bytes of an event.
inline Dialect FindDialect(const std::string& name, std::size_t size, std::size_t subscribers) {
  if (name == "evrelay") return EvrelayDialect(size);
  if (name == "requests") return RequestsDialect(size, subscribers);
  if (name == "kamailio") return KamailioDialect(size);
  if (name == "nats") return NatsDialect(size);
  if (name == "redis") return RedisDialect(size);
  if (name == "mqtt") return MqttDialect(size);
  throw std::invalid_argument("--dialect: evrelay, requests, kamailio, nats, redis or mqtt");
}

}  // namespace bench

#endif  // EVRELAY_TESTS_BENCH_DIALECT_H_
