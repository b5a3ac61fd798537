// What UCX carries, and what is said at the door (protocol/WIRE.md, "UCX frames").
//
// A frame is one active message: its header is the prefix and the message's header, its data the
// payload. Each end chooses a token for the connection, which the other puts on every frame.
#pragma once

#include <cstring>
#include <span>

#include "transport/transport.h"

namespace pregate::transport {

enum class UcxFrameKind : uint32_t {
  kReady = 1,    ///< The first: bytes flow this way.
  kMessage = 2,  ///< Header and payload of a send().
  kBye = 3,      ///< The last: the sender closes.
};

struct UcxFramePrefix {
  uint64_t token = 0;
  uint64_t number = 0;  ///< 0, 1, 2, ...: a rendezvous may finish after a later small message.
  UcxFrameKind kind = UcxFrameKind::kMessage;
  uint32_t reserved = 0;
};
static_assert(sizeof(UcxFramePrefix) == 24);

inline constexpr size_t kMaxUcxHeaderBytes = sizeof(UcxFramePrefix) + kMaxHeaderBytes;

/// Follows the hello at the door.
struct UcxCard {
  uint64_t token = 0;
  uint32_t port = 0;  ///< Where UCX waits for the dialling side; 0 from that one.
  uint32_t reserved = 0;
};
static_assert(sizeof(UcxCard) == 16);

template <typename T>
T read_struct(std::span<const std::byte> bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof(value));
  return value;
}

}  // namespace pregate::transport
