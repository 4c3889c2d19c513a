// TLS over socket pairs whose other ends the test reads and writes, so that it decides how bytes
// are packed. Everything is in one thread, nothing waits.

#include <openssl/ssl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "net/tls.h"
#include "net/tls_transport.h"
#include "net_test.h"
#include "support/catch.h"
#include "support/certificates.h"
#include "support/tls_client.h"

namespace evrelay {
namespace {

using Progress = TlsTransport::Progress;
using Status = Transport::Status;

// A connection: the server's side, and the socket of the other.
struct Wire {
  explicit Wire(const TlsContext& context) {
    int fds[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    fd = UniqueFd(fds[1]);
    server = context.Accept(UniqueFd(fds[0]));
  }

  void Give(std::string_view bytes) {
    REQUIRE(send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
            static_cast<ssize_t>(bytes.size()));
  }
  // What has come, at most `most` bytes.
  std::string Take(std::size_t most = SIZE_MAX) {
    std::string taken;
    std::array<char, 16 * 1024> some;
    while (taken.size() < most) {
      const ssize_t n =
          recv(fd.get(), some.data(), std::min(some.size(), most - taken.size()), MSG_DONTWAIT);
      if (n <= 0) break;
      taken.append(some.data(), static_cast<std::size_t>(n));
    }
    return taken;
  }

  std::unique_ptr<TlsTransport> server;
  UniqueFd fd;
};

// The parts of a stream that is cut once, `cut` bytes after its start.
class CutStream {
 public:
  explicit CutStream(std::size_t cut) : cut_(cut) {}

  std::vector<std::string> Parts(const std::string& bytes) {
    const std::size_t before = std::exchange(passed_, passed_ + bytes.size());
    if (cut_ <= before || cut_ >= passed_) return {bytes};
    return {bytes.substr(0, cut_ - before), bytes.substr(cut_ - before)};
  }
  std::size_t passed() const { return passed_; }

 private:
  const std::size_t cut_;
  std::size_t passed_ = 0;
};

// To the handshake's end, however it ends; the streams of both directions are cut at `cut`. The
// number of bytes in the longer one.
std::size_t Shake(Wire& wire, TlsClient& client, TlsTransport::Handshaken& result,
                  std::size_t cut = SIZE_MAX) {
  CutStream up(cut);
  CutStream down(cut);
  client.Hear({});
  result.progress = Progress::kMore;
  for (std::string said = client.Say(); !said.empty(); said = client.Say()) {
    for (const std::string& part : up.Parts(said)) {
      REQUIRE(result.progress == Progress::kMore);
      wire.Give(part);
      result = wire.server->Handshake();
    }
    for (const std::string& part : down.Parts(wire.Take())) client.Hear(part);
  }
  return std::max(up.passed(), down.passed());
}

TlsTransport::Handshaken Shake(Wire& wire, TlsClient& client) {
  TlsTransport::Handshaken result{Progress::kMore};
  Shake(wire, client, result);
  return result;
}

// Both sides, ready to send.
struct Connected {
  explicit Connected(const TlsConfig& config, SslContext own = ClientContext())
      : context(std::move(own)), client(context.get()), wire(*LoadTls(config)) {
    REQUIRE(Shake(wire, client).progress == Progress::kDone);
    REQUIRE(client.shaken);
  }

  Transport::Sent Send(std::string_view bytes) {
    const iovec piece{const_cast<char*>(bytes.data()), bytes.size()};
    return wire.server->Send(&piece, 1);
  }
  Transport::Received Receive(std::size_t room = Transport::kMinRoom) {
    std::string to(room, '\0');
    const Transport::Received got = wire.server->Receive(to.data(), to.size());
    if (got.status == Status::kSome) received.append(to, 0, got.bytes);
    return got;
  }

  SslContext context;
  TlsClient client;
  Wire wire;
  std::string received;
};

void UseVersion(SSL_CTX* context, int version) {
  REQUIRE(SSL_CTX_set_min_proto_version(context, version) == 1);
  REQUIRE(SSL_CTX_set_max_proto_version(context, version) == 1);
}

SslContext ClientOf(int version) {
  SslContext context = ClientContext();
  UseVersion(context.get(), version);
  return context;
}

// The connection that a callback of the context has seen last.
SSL* seen = nullptr;
void See(SSL_CTX* context) {
  SSL_CTX_set_info_callback(context,
                            [](const SSL* ssl, int, int) { seen = const_cast<SSL*>(ssl); });
}

std::string RandomBytes(std::mt19937& random, std::size_t size) {
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

// What LoadTls says is wrong.
template <class Config>
std::string Fault(const Config& config) {
  try {
    LoadTls(config);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return {};
}

}  // namespace

TEST_CASE("tls: a handshake, cut anywhere") {
  const int version = GENERATE(TLS1_2_VERSION, TLS1_3_VERSION);
  Authority authority;
  const auto context = LoadTls(authority.Listener());
  const SslContext client_context = ClientOf(version);
  std::size_t longest = 2;
  for (std::size_t cut = 1; cut < longest; ++cut) {
    Wire wire(*context);
    TlsClient client(client_context.get());
    TlsTransport::Handshaken result{Progress::kMore};
    longest = Shake(wire, client, result, cut);
    REQUIRE(result.progress == Progress::kDone);
    REQUIRE(client.shaken);
    REQUIRE_FALSE(wire.server->holds_input());
  }
  CHECK(longest > 300);
}

TEST_CASE("tls: data, cut anywhere") {
  const int version = GENERATE(TLS1_2_VERSION, TLS1_3_VERSION);
  Authority authority;
  Connected both(authority.Listener(), ClientOf(version));
  const std::string_view parts[] = {"5:hello,", "3:one,3:two,", "0:,"};
  std::string all;
  for (const std::string_view part : parts) all += part;
  std::size_t size = 2;
  for (std::size_t cut = 1; cut < size; ++cut) {
    for (const std::string_view part : parts) both.client.Write(part);
    const std::string ciphertext = both.client.Say();
    size = ciphertext.size();
    for (const std::string_view half :
         {std::string_view(ciphertext).substr(0, cut), std::string_view(ciphertext).substr(cut)}) {
      both.wire.Give(half);
      const Transport::Received got = both.Receive();
      REQUIRE((got.status == Status::kSome || got.status == Status::kAgain));
      REQUIRE_FALSE(both.wire.server->holds_input());
    }
    REQUIRE(both.received == all);
    REQUIRE(both.Receive().status == Status::kAgain);
    both.received.clear();

    REQUIRE(both.Send(all).bytes == all.size());
    const std::string back = both.wire.Take();
    both.client.Hear(std::string_view(back).substr(0, cut));
    if (cut < back.size()) both.client.Hear(std::string_view(back).substr(cut));
    REQUIRE(both.client.heard == all);
    both.client.heard.clear();
  }
}

TEST_CASE("tls: much data has room") {
  const int version = GENERATE(TLS1_2_VERSION, TLS1_3_VERSION);
  const std::size_t room = GENERATE(as<std::size_t>{}, 32 * 1024, 32 * 1024 + 1, 64 * 1024);
  Authority authority;
  Connected both(authority.Listener(), ClientOf(version));
  std::mt19937 random(1);
  for (int round = 0; round < 40; ++round) {
    const std::string plain = RandomBytes(random, 1 + random() % 60'000);
    both.client.Write(plain);
    const std::string ciphertext = both.client.Say();
    for (std::size_t at = 0; at < ciphertext.size();) {
      const std::size_t size = std::min<std::size_t>(1 + random() % 20'000, ciphertext.size() - at);
      both.wire.Give(std::string_view(ciphertext).substr(at, size));
      at += size;
      if (random() % 2 == 0) both.Receive(room);
    }
    while (both.received.size() < plain.size()) {
      const Status status = both.Receive(room).status;
      REQUIRE((status == Status::kSome || status == Status::kAgain));
    }
    REQUIRE((both.received == plain));
    both.received.clear();
  }
}

TEST_CASE("tls: data that comes together with the end of the handshake") {
  Authority authority;
  const SslContext context = ClientContext();
  TlsClient client(context.get());
  Wire wire(*LoadTls(authority.Listener()));
  client.Hear({});
  wire.Give(client.Say());
  REQUIRE(wire.server->Handshake().progress == Progress::kMore);
  client.Hear(wire.Take());
  REQUIRE(client.shaken);
  client.Write("5:hello,");
  const std::string last = client.Say();
  std::string to(Transport::kMinRoom, '\0');

  SECTION("all of it") {
    wire.Give(last);
    REQUIRE(wire.server->Handshake().progress == Progress::kDone);
    CHECK(wire.server->holds_input());
    const Transport::Received got = wire.server->Receive(to.data(), to.size());
    REQUIRE(got.status == Status::kSome);
    CHECK(to.substr(0, got.bytes) == "5:hello,");
  }
  SECTION("all but its last byte") {
    wire.Give(last.substr(0, last.size() - 1));
    REQUIRE(wire.server->Handshake().progress == Progress::kDone);
    CHECK(wire.server->holds_input());
    CHECK(wire.server->Receive(to.data(), to.size()).status == Status::kAgain);
    CHECK_FALSE(wire.server->holds_input());
    wire.Give(last.substr(last.size() - 1));
    const Transport::Received got = wire.server->Receive(to.data(), to.size());
    REQUIRE(got.status == Status::kSome);
    CHECK(to.substr(0, got.bytes) == "5:hello,");
  }
  CHECK_FALSE(wire.server->holds_input());
  CHECK(wire.server->Receive(to.data(), to.size()).status == Status::kAgain);
}

TEST_CASE("tls: whatever the socket takes, what counts as sent arrives") {
  const int version = GENERATE(TLS1_2_VERSION, TLS1_3_VERSION);
  const auto seed = GENERATE(range(0U, 20U));
  CAPTURE(seed);
  std::mt19937 random(seed);
  Authority authority;
  Connected both(authority.Listener(), ClientOf(version));
  const int small = 4096;
  REQUIRE(setsockopt(both.wire.server->fd(), SOL_SOCKET, SO_SNDBUF, &small, sizeof small) == 0);

  std::string counted;  // as sent
  std::string first;    // what the next call has to begin with
  std::size_t moved = 0;
  std::size_t taken = 0;
  const auto hear = [&](std::size_t most) {
    const std::string bytes = both.wire.Take(most);
    taken += bytes.size();
    both.client.Hear(bytes);
  };
  for (int step = 0; step < 200; ++step) {
    const std::size_t largest = random() % 4 == 0 ? 200'000 : 300;
    const std::string offered = first + RandomBytes(random, 1 + random() % largest);
    std::vector<iovec> pieces;
    for (std::size_t at = 0; at < offered.size();) {
      const std::size_t size = std::min<std::size_t>(1 + random() % 50'000, offered.size() - at);
      pieces.push_back({const_cast<char*>(offered.data()) + at, size});
      at += size;
    }
    const Transport::Sent sent = both.wire.server->Send(pieces.data(), pieces.size());
    REQUIRE_FALSE(sent.broken);
    REQUIRE(sent.bytes <= offered.size());
    moved += sent.moved;
    counted += offered.substr(0, sent.bytes);
    first = offered.substr(sent.bytes, 1);
    const bool begun = both.wire.server->has_begun();
    if (first.empty()) {
      // Then the kernel has it all.
      REQUIRE_FALSE(begun);
      hear(SIZE_MAX);
      REQUIRE((both.client.heard == counted));
    } else if (random() % 3 == 0) {
      // Of what counts as sent, less than a chunk is not with the kernel.
      hear(SIZE_MAX);
      REQUIRE(both.client.heard.size() + SessionTransport::kChunk > counted.size());
    } else {
      hear(random() % 10'000);
    }
    REQUIRE(both.client.heard.size() <= counted.size() + (begun ? 1 : 0));
  }
  while (!first.empty()) {
    const Transport::Sent sent = both.Send(first);
    moved += sent.moved;
    counted += first.substr(0, sent.bytes);
    first.erase(0, sent.bytes);
    hear(SIZE_MAX);
  }
  CHECK((both.client.heard == counted));
  CHECK(moved == taken);
}

TEST_CASE("tls: the end of the client") {
  Authority authority;
  Connected both(authority.Listener());
  both.client.Write("5:hello,");

  SECTION("is said right after data") {
    both.client.session.End();
    both.wire.Give(both.client.Say());
    CHECK(both.Receive().status == Status::kSome);
    CHECK(both.received == "5:hello,");
    CHECK(both.wire.server->holds_input());
    CHECK(both.Receive().status == Status::kEnd);
    // Our side goes on until it ends, too.
    CHECK(both.Send("3:one,").bytes == 6);
    both.client.session.Feed({});
    const std::string back = both.wire.Take();
    CHECK(back.size() > 6);
  }
  SECTION("is not said, the connection just ends") {
    both.wire.Give(both.client.Say());
    both.wire.fd.Close();
    CHECK(both.Receive().status == Status::kSome);
    CHECK(both.Receive().status == Status::kEnd);
  }
  SECTION("comes inside a record") {
    const std::string bytes = both.client.Say();
    both.wire.Give(bytes.substr(0, bytes.size() - 1));
    both.wire.fd.Close();
    CHECK(both.Receive().status == Status::kAgain);
    CHECK(both.Receive().status == Status::kEnd);
  }
}

TEST_CASE("tls: our end") {
  Authority authority;
  Connected both(authority.Listener());

  SECTION("is said, then comes EOF") {
    CHECK(both.Send("5:hello,").bytes == 8);
    CHECK(both.wire.server->EndSending() == Transport::Ended::kDone);
    both.client.Hear(both.wire.Take());
    CHECK(both.client.heard == "5:hello,");
    CHECK(both.client.ended);
    CHECK(SeesEnd(both.wire.fd.get()));
    // The other side may go on.
    both.client.Write("3:one,");
    both.wire.Give(both.client.Say());
    CHECK(both.Receive().status == Status::kSome);
  }
  SECTION("waits while the socket is full") {
    const std::string junk(1000, '.');
    while (send(both.wire.server->fd(), junk.data(), junk.size(), MSG_DONTWAIT) > 0) {
    }
    CHECK(both.wire.server->EndSending() == Transport::Ended::kAgain);
    CHECK(both.wire.server->EndSending() == Transport::Ended::kAgain);
    const std::size_t before = both.wire.Take().size();
    CHECK(before % junk.size() == 0);
    CHECK(SeesNothing(both.wire.fd.get()));
    CHECK(both.wire.server->EndSending() == Transport::Ended::kDone);
    CHECK_FALSE(both.wire.Take().empty());
    CHECK(SeesEnd(both.wire.fd.get()));
  }
  SECTION("to one that is gone") {
    both.wire.fd.Close();
    CHECK(both.wire.server->EndSending() == Transport::Ended::kBroken);
    CHECK(both.Send("5:hello,").broken);
  }
}

TEST_CASE("tls: what is no TLS any more breaks the connection, in words") {
  Authority authority;
  Connected both(authority.Listener());
  both.client.Write("5:hello,");
  std::string bytes = both.client.Say();
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  both.wire.Give(bytes);
  const Transport::Received got = both.Receive();
  CHECK(got.status == Status::kBroken);
  CHECK(got.error == 0);
  CHECK_FALSE(both.wire.server->trouble().empty());
  CHECK(both.Receive().status == Status::kBroken);
  CHECK(both.Send("3:one,").broken);
  both.client.Hear(both.wire.Take());
  CHECK(both.client.failed);  // it is told
}

TEST_CASE("tls: keys are changed, but not for fun") {
  Authority authority;
  SslContext context = ClientOf(TLS1_3_VERSION);
  See(context.get());
  Connected both(authority.Listener(), std::move(context));
  const auto change = [&](int times) {
    for (int i = 0; i < times; ++i) {
      REQUIRE(SSL_key_update(seen, SSL_KEY_UPDATE_REQUESTED) == 1);
      REQUIRE(both.client.session.Handshake() == TlsSession::Result::kDone);
    }
    return both.client.Say();
  };

  SECTION("some at a time") {
    const std::string changes = change(TlsSession::kMaxOthers);
    both.client.Write("5:hello,");
    both.wire.Give(changes + both.client.Say());
    const Status status = both.Receive().status;
    INFO(both.wire.server->trouble());
    CHECK(status == Status::kSome);
    CHECK(both.received == "5:hello,");
    CHECK(both.Send("3:one,").bytes == 6);
    both.client.Hear(both.wire.Take());
    CHECK(both.client.heard == "3:one,");
  }
  SECTION("too many at once") {
    both.wire.Give(change(TlsSession::kMaxOthers + 2));
    CHECK(both.Receive().status == Status::kBroken);
    CHECK_FALSE(both.wire.server->trouble().empty());
  }
  SECTION("too many whose answers are not read") {
    const int small = 4096;
    REQUIRE(setsockopt(both.wire.server->fd(), SOL_SOCKET, SO_SNDBUF, &small, sizeof small) == 0);
    Status status = Status::kAgain;
    int rounds = 0;
    while (status == Status::kAgain && rounds < 2000) {
      both.wire.Give(change(TlsSession::kMaxOthers));
      status = both.Receive().status;
      ++rounds;
    }
    CHECK(status == Status::kBroken);
    CHECK(rounds > 100);
  }
}

TEST_CASE("tls: nobody makes us shake hands again") {
  Authority authority;
  SslContext context = ClientOf(TLS1_2_VERSION);
  See(context.get());
  Connected both(authority.Listener(), std::move(context));
  REQUIRE(SSL_renegotiate(seen) == 1);
  REQUIRE(both.client.session.Handshake() == TlsSession::Result::kWantsInput);
  both.wire.Give(both.client.Say());
  CHECK(both.Receive().status == Status::kAgain);
  CHECK(both.wire.Take().size() < 100);  // an alert
  CHECK(both.Send("3:one,").bytes == 6);
}

TEST_CASE("tls: handshakes fail by name") {
  Authority authority;
  Authority stranger("somebody else");
  Authority twin;  // of the same name
  const TlsConfig mutual = authority.MutualListener();
  struct Case {
    const char* name;
    TlsFailure failure;
    TlsConfig config;
    Authority::Files own;
    int version = 0;
  };
  TlsConfig new_only = authority.Listener(TlsVersion::k13);
  const Case cases[] = {
      {"TLS 1.1", TlsFailure::kVersion, authority.Listener(), {}, TLS1_1_VERSION},
      {"TLS 1.2 below min", TlsFailure::kVersion, new_only, {}, TLS1_2_VERSION},
      {"no certificate", TlsFailure::kNoCertificate, mutual, {}, TLS1_3_VERSION},
      {"no certificate", TlsFailure::kNoCertificate, mutual, {}, TLS1_2_VERSION},
      {"of a stranger", TlsFailure::kUnknownCa, mutual, stranger.Sign({"desk"})},
      {"of a twin", TlsFailure::kUnknownCa, mutual, twin.Sign({"desk"})},
      {"expired", TlsFailure::kExpired, mutual, authority.Sign({"desk", {}, -3, -1})},
      {"of tomorrow", TlsFailure::kExpired, mutual, authority.Sign({"desk", {}, 1, 3})},
      {"NUL", TlsFailure::kBadCertificate, mutual, authority.Sign({std::string("de\0sk", 5)})},
      {"long", TlsFailure::kBadCertificate, mutual, authority.Sign({std::string(256, 'x')})},
  };
  for (const Case& c : cases) {
    CAPTURE(c.name, c.version);
    SslContext context = ClientContext(c.own);
    if (c.version != 0) UseVersion(context.get(), c.version);
    if (c.version == TLS1_1_VERSION) {
      REQUIRE(SSL_CTX_set_cipher_list(context.get(), "DEFAULT@SECLEVEL=0") == 1);
    }
    TlsClient client(context.get());
    Wire wire(*LoadTls(c.config));
    const TlsTransport::Handshaken result = Shake(wire, client);
    CHECK(result.progress == Progress::kFailed);
    CHECK(Name(result.failure) == Name(c.failure));
    CHECK_FALSE(result.words.empty());
    CHECK(client.failed);  // it is told
  }
}

TEST_CASE("tls: what is no handshake fails by name") {
  Authority authority;
  const auto context = LoadTls(authority.Listener());
  Wire wire(*context);
  const SslContext client_context = ClientContext();
  TlsClient client(client_context.get());
  client.Hear({});
  const std::string hello = client.Say();

  SECTION("silence") { CHECK(wire.server->Handshake().progress == Progress::kMore); }
  SECTION("another protocol") {
    wire.Give("GET / HTTP/1.1\r\n\r\n");
    CHECK(wire.server->Handshake().failure == TlsFailure::kProtocol);
  }
  SECTION("a netstring") {
    wire.Give("5:hello,");
    CHECK(wire.server->Handshake().failure == TlsFailure::kProtocol);
  }
  SECTION("leaving at once") {
    wire.fd.Close();
    CHECK(wire.server->Handshake().failure == TlsFailure::kClosed);
  }
  SECTION("leaving in the middle") {
    wire.Give(hello.substr(0, 20));
    CHECK(wire.server->Handshake().progress == Progress::kMore);
    wire.fd.Close();
    CHECK(wire.server->Handshake().failure == TlsFailure::kClosed);
  }
  SECTION("leaving with words") {
    wire.Give(hello);
    CHECK(wire.server->Handshake().progress == Progress::kMore);
    wire.Give(std::string("\x15\x03\x03\x00\x02\x02\x30", 7));  // a fatal alert: unknown CA
    const TlsTransport::Handshaken result = wire.server->Handshake();
    CHECK(result.failure == TlsFailure::kClosed);
    CHECK(result.words.find("unknown ca") != std::string::npos);
  }
}

TEST_CASE("tls: our last words of a handshake wait while the socket is full") {
  Authority authority;
  const SslContext context = ClientOf(TLS1_2_VERSION);  // in which ours are the last
  TlsClient client(context.get());
  Wire wire(*LoadTls(authority.Listener()));
  client.Hear({});
  wire.Give(client.Say());
  REQUIRE(wire.server->Handshake().progress == Progress::kMore);
  client.Hear(wire.Take());
  const std::string junk(1000, '.');
  while (send(wire.server->fd(), junk.data(), junk.size(), MSG_DONTWAIT) > 0) {
  }
  wire.Give(client.Say());
  const TlsTransport::Handshaken waits = wire.server->Handshake();
  CHECK(waits.progress == Progress::kMore);
  CHECK(waits.waits_to_send);
  while (wire.Take(junk.size()).size() == junk.size()) {
  }
  const TlsTransport::Handshaken done = wire.server->Handshake();
  CHECK(done.progress == Progress::kDone);
  CHECK_FALSE(done.waits_to_send);
  client.Hear(wire.Take());
  CHECK(client.shaken);
}

TEST_CASE("tls: what a certificate calls its owner") {
  Authority authority;
  struct Case {
    Authority::Text text;
    std::string name;
  };
  const Case c =
      GENERATE(Case{{"desk-1"}, "desk-1"}, Case{{"desk-1", "DNS:other"}, "desk-1"},
               Case{{"", "IP:127.0.0.1,DNS:desk.example,email:a@b.example"}, "desk.example"},
               Case{{"", "email:a@b.example,DNS:desk.example"}, "a@b.example"},
               Case{{"", "IP:127.0.0.1"}, ""}, Case{{"B\xc3\xbcro 1"}, "B\xc3\xbcro 1"},
               Case{{std::string(255, 'x')}, std::string(255, 'x')});
  Connected both(authority.MutualListener(), ClientContext(authority.Sign(c.text)));
  CHECK(both.wire.server->peer_name() == c.name);
}

TEST_CASE("tls: who is not asked has no name") {
  Authority authority;
  Connected both(authority.Listener(), ClientContext(authority.Sign({"desk-1"})));
  CHECK(both.wire.server->peer_name().empty());
}

TEST_CASE("tls: a client sees to it that it is the relay") {
  Authority authority;
  Authority stranger("somebody else");
  struct Case {
    const char* server;
    std::optional<TlsFailure> failure;
    TlsConfig config;
  };
  const auto with = [](const Authority::Files& own) {
    return TlsConfig{own.cert, own.key, {}, {}};
  };
  const Case cases[] = {
      {"localhost", {}, authority.Listener()},
      {"127.0.0.1", {}, authority.Listener()},
      {"example.org", TlsFailure::kBadCertificate, authority.Listener()},
      {"127.0.0.2", TlsFailure::kBadCertificate, authority.Listener()},
      {"localhost", TlsFailure::kUnknownCa, stranger.Listener()},
      {"localhost", TlsFailure::kExpired, with(authority.Sign({"relay", "DNS:localhost", -3, -1}))},
  };
  for (const Case& c : cases) {
    CAPTURE(c.server);
    int fds[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    const auto server = LoadTls(c.config)->Accept(UniqueFd(fds[0]));
    const auto client =
        LoadTls(TlsClientConfig{authority.cert(), {}, {}})->Connect(UniqueFd(fds[1]), c.server);
    TlsTransport::Handshaken result{Progress::kMore};
    TlsTransport::Handshaken other{Progress::kMore};
    for (int i = 0; i < 10 && result.progress == Progress::kMore; ++i) {
      result = client->Handshake();
      other = server->Handshake();
    }
    if (c.failure) {
      CHECK(result.progress == Progress::kFailed);
      CHECK(Name(result.failure) == Name(*c.failure));
      CHECK(result.words.find("certificate verify failed: ") == 0);
      CHECK(other.failure == TlsFailure::kClosed);
    } else {
      CHECK(result.progress == Progress::kDone);
    }
  }
}

TEST_CASE("tls: files that are of no use are named") {
  Authority authority;
  const TlsConfig good = authority.MutualListener();
  CHECK(Fault(good).empty());
  const std::string missing = authority.Path("missing.pem");
  const std::string empty = authority.Write("empty.pem", "");
  const std::string folder = authority.Path("folder");
  REQUIRE(mkdir(folder.c_str(), 0700) == 0);
  const std::string fifo = authority.Path("fifo");
  REQUIRE(mkfifo(fifo.c_str(), 0600) == 0);
  const std::string half =
      authority.Write("half.pem", ReadFile(good.cert).substr(0, ReadFile(good.cert).size() / 2));
  std::string text = ReadFile(good.cert);
  text[text.size() / 2] = '!';
  const std::string damaged = authority.Write("damaged.pem", text);
  const std::string locked =
      authority.Write("locked.pem",
                      "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
                      "MIGjMF8GCSqGSIb3DQEFDTBSMDEGCSqGSIb3DQEFDDAkBBAAAAAAAAAAAAAAAAAA\n"
                      "AAAAAgIIADAMBggqhkiG9w0CCQUAMB0GCWCGSAFlAwQBKgQQAAAAAAAAAAAAAAAA\n"
                      "AAAAAARAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n"
                      "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==\n"
                      "-----END ENCRYPTED PRIVATE KEY-----\n");
  const auto with = [&good](std::string TlsConfig::*key, const std::string& path) {
    TlsConfig config = good;
    config.*key = path;
    return Fault(config);
  };
  CHECK(with(&TlsConfig::cert, missing) == "cert: " + missing + ": No such file or directory");
  CHECK(with(&TlsConfig::key, missing) == "key: " + missing + ": No such file or directory");
  CHECK(with(&TlsConfig::client_ca, missing) ==
        "client_ca: " + missing + ": No such file or directory");
  CHECK(with(&TlsConfig::cert, empty) ==
        "cert: " + empty +
            ": no certificate in it; give one in PEM format, which begins with -----BEGIN "
            "CERTIFICATE-----");
  CHECK(with(&TlsConfig::cert, good.key).find("no certificate in it") != std::string::npos);
  CHECK(with(&TlsConfig::client_ca, empty).find("client_ca: " + empty + ": no cert") == 0);
  CHECK(with(&TlsConfig::key, empty).find("key: " + empty + ": no private key in it (") == 0);
  CHECK(with(&TlsConfig::key, good.cert).find("no private key in it") != std::string::npos);
  CHECK(with(&TlsConfig::cert, folder) ==
        "cert: " + folder + ": not a file; give one in PEM format");
  CHECK(with(&TlsConfig::cert, fifo) == "cert: " + fifo + ": not a file; give one in PEM format");
  CHECK(with(&TlsConfig::cert, half).find("certificate 1 in it is broken (") != std::string::npos);
  CHECK(with(&TlsConfig::cert, damaged).find("certificate 1 in it is broken (") !=
        std::string::npos);
  CHECK(with(&TlsConfig::key, locked) ==
        "key: " + locked +
            ": the key has a passphrase; give it without, readable by evrelay alone");
  const Authority::Files other = authority.Server();
  CHECK(with(&TlsConfig::key, other.key) == "key: " + other.key +
                                                ": not the key of the first certificate in " +
                                                good.cert + "; give the one that it was made with");
  CHECK(Fault(TlsClientConfig{missing, {}, {}}).find("--ca: " + missing) == 0);
  CHECK(Fault(TlsClientConfig{{}, missing, other.key}).find("--cert: " + missing) == 0);
  CHECK(Fault(TlsClientConfig{{}, other.cert, good.key}).find("--key: " + good.key) == 0);
}

TEST_CASE("tls: a certificate that nobody will accept is only warned of") {
  Authority authority;
  CHECK(LoadTls(authority.Listener())->Warning().empty());
  const Authority::Files old = authority.Sign({"relay", {}, -3, -1});
  CHECK(LoadTls(TlsConfig{old.cert, old.key, {}, {}})
            ->Warning()
            .find(old.cert + ": the certificate has expired: ") == 0);
  const Authority::Files early = authority.Sign({"relay", {}, 1, 3});
  CHECK(LoadTls(TlsConfig{early.cert, early.key, {}, {}})
            ->Warning()
            .find(early.cert + ": the certificate is not valid before ") == 0);
}

TEST_CASE("tls: connections keep the certificates that they were made with") {
  Authority authority;
  auto context = LoadTls(authority.Listener());
  const SslContext client_context = ClientContext();
  TlsClient client(client_context.get());
  Wire wire(*context);
  context.reset();
  REQUIRE(Shake(wire, client).progress == Progress::kDone);
}

}  // namespace evrelay
