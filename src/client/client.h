// Client: one connection to the relay, as the commands use it. Nothing here waits except Connect…:
// a command polls its descriptors itself, as it has its own input and output to mind. Before it
// waits for input it calls Receive until that has nothing.
//
// Trouble that ends a command is a std::runtime_error whose message says what to do about it.
// Thread safety: none; one thread a connection.

#ifndef EVRELAY_CLIENT_CLIENT_H_
#define EVRELAY_CLIENT_CLIENT_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "codec/framing.h"
#include "evrelay/ids.h"
#include "evrelay/netstring.h"
#include "net/address.h"
#include "net/tls.h"
#include "net/transport.h"

namespace evrelay {

class Client {
 public:
  enum class Receipt : std::uint8_t {
    kBytes,    // something has come; Next has it
    kNothing,  // not now
    kEof,      // the relay has ended its side
    kBroken,   // the connection was reset
  };

  // `limits`: what is accepted from the relay.
  Client(std::unique_ptr<Transport> transport, const netstring::Limits& limits);

  int fd() const { return transport_->fd(); }

  // Reads once. Call Next until kMore before the next call.
  Receipt Receive();

  // The next frame of what has been received, valid until the next call.
  FrameReader::Item Next() { return reader_.Next(unread_, limits_); }

  // At kEof: the stream ended inside a frame.
  bool truncated() const { return reader_.Finish() != netstring::Error::kNone; }

  // At kBroken: why, if there are words for it.
  std::string trouble() const { return transport_->trouble(); }

  // Writes what the kernel takes now and removes it from the front of `bytes`. False: the relay no
  // longer listens; what it has to say can still be received.
  bool Send(std::string_view& bytes);

  // EOF for the relay. It answers what is open, then closes. For plain connections.
  void FinishSending();

 private:
  std::unique_ptr<Transport> transport_;
  netstring::Limits limits_;
  std::string buffer_;
  std::string_view unread_;  // of buffer_
  FrameReader reader_;
};

// Connects to the producer or the control socket at `path`; empty: the default place. Throws.
Client ConnectProducer(const std::string& path);
Client ConnectControl(const std::string& path);

// Connects to the subscriber port at `address`, with TLS if `tls` is there: then the relay has to
// show a certificate for `server`; empty: for the address's host. Throws.
Client ConnectSubscriber(const BindAddress& address, const TlsContext* tls = nullptr,
                         const std::string& server = {});

// An answer of the relay: the list `ok ARGUMENT…` or `error CODE TEXT`. The views are into the
// payload.
struct Answer {
  bool ok = false;
  std::optional<std::string_view> argument;  // ok: what follows it
  std::string_view code;                     // error
  std::string_view text;
};

// None: it is no answer.
std::optional<Answer> ParseAnswer(const FrameReader::Item& frame);

// What a request is answered that is, or was, suspended.
struct AsyncAnswer {
  enum class Kind : std::uint8_t {
    kSuspended,  // the first answer; one of the others follows
    kResumed,    // a hook gave `data`
    kExpired,    // its time is over
    kDraining,   // the relay is stopping
  };
  Kind kind = Kind::kSuspended;
  SuspendedId request;
  std::string_view data;  // of the payload
};

// None: it is none of these.
std::optional<AsyncAnswer> ParseAsyncAnswer(const FrameReader::Item& frame);

}  // namespace evrelay

#endif  // EVRELAY_CLIENT_CLIENT_H_
