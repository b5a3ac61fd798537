// What other threads ask of the one that does UCX's work.
#pragma once

#include "transport/mailbox.h"
#include "transport/transport.h"
#include "transport/ucx/poller.h"

namespace pregate::transport {

struct UcxCommand {
  enum class Kind { kConnect, kDial, kSend, kDisconnect, kStop };
  Kind kind = Kind::kStop;
  PeerId peer;
  uint64_t send_id = 0;                // kSend
  std::vector<std::byte> header;       // kSend: UcxLink::make_header()
  Payload payload;                     // kSend
  std::vector<Completion> failed;      // kDisconnect
  uint64_t token = 0;                  // kDial: of the connection
  Result<SocketAddress> address = {};  // kDial: where its name leads
  TimePoint leave_by;                  // kStop
};

/// Shared with the threads that look names up, which may outlive the transport.
using UcxMailbox = Mailbox<UcxCommand, Poller>;

}  // namespace pregate::transport
