// UCX as a transport: processes that come and go, in the shape of a star. One listens, the others
// dial it; a process may do both.
//
// Written against UCX 1.13. UCX's own listener is not used: it aborts the process when bytes that
// are not UCX's come in. Processes greet each other on a plain socket instead (door.h), and only
// one that has said hello is told to UCX.
//
// UCX's settings are taken from the environment; what it does not set is chosen here: UCX_TLS is
// "tcp,self", UCX_NET_DEVICES the device of the address, and see worker.cc. Who sets
// UCX_TCP_*_SEG_SIZE sets it for all processes.
#pragma once

#include <map>
#include <memory>

#include "transport/transport.h"

namespace pregate::transport {

struct UcxOptions {
  PeerId self;  ///< What self() answers; the others know this process by their own number.
  /// "HOST:PORT"; port 0 is any free one, IPv6 hosts are in brackets. Empty: only dials.
  std::string listen;
  /// Whom connect() can dial. Looked up anew each time, so a name may move.
  std::map<PeerId, std::string> addresses;
  /// What UCX_NET_DEVICES would say. Empty: the device that has the address listened on, or else
  /// the one that leads to the first of `addresses`; all of them where neither says.
  std::string device;
  /// Payloads up to this size are sent without asking, which spares a round trip and costs a copy.
  size_t rendezvous_threshold_bytes = size_t{512} << 10;
  size_t max_in_flight_bytes = kDefaultInFlightBytes;
  /// From dialling, or being dialled, to peer_up.
  Duration connect_timeout = std::chrono::seconds(5);
  /// Accepted connections that have not said hello yet; more are closed at once.
  size_t max_ungreeted = 64;
  /// How often to look for work before sleeping: the longer, the sooner the next message is seen,
  /// and the more is taken from a core that others could use.
  int spins = 200;
};

/// PeerIds: connect() takes those of UcxOptions::addresses. A connection that is accepted gets an
/// id of its own, above all of these and never used again; which process it is, the layer above
/// reads from the hello. A peer that was lost can be connected to again.
class UcxTransport : public Transport {
 public:
  /// "HOST:PORT" with the port that was bound; empty if it does not listen.
  virtual std::string listen_address() const = 0;
  /// Accepted connections that never came up: no hello, a wrong one, none in time, too many.
  virtual uint64_t num_refused() const = 0;
};

/// Listens at once; connections wait until start(). kInvalidArgument and kUnavailable for addresses
/// that cannot be used, kNotFound for the name of a host that nobody knows yet, kUnimplemented in a
/// build without UCX.
Result<std::unique_ptr<UcxTransport>> make_ucx_transport(const UcxOptions& options);

}  // namespace pregate::transport
