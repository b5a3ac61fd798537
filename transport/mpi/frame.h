// How a message travels through MPI (protocol/WIRE.md, "MPI frames").
//
// A frame is one MPI message of tag kFrameTag: prefix, header padded to kPayloadAlignment, and the
// payload if it is small. A larger payload follows as a message of its own with tag kPayloadTag:
// MPI keeps the order of messages of one source and tag, so the n-th announced payload is the n-th
// to arrive.
#pragma once

#include <cstring>

#include "transport/transport.h"

namespace pregate::transport {

inline constexpr int kFrameTag = 1;
inline constexpr int kPayloadTag = 2;
/// One decode token batch fits; copying it costs less than a second message.
inline constexpr size_t kMaxInlinePayloadBytes = 32 << 10;

enum class FrameKind : uint32_t { kHello = 1, kMessage = 2 };

struct FramePrefix {
  FrameKind kind = FrameKind::kMessage;
  uint32_t header_bytes = 0;
  uint64_t payload_bytes = 0;
};
static_assert(sizeof(FramePrefix) == 16);

constexpr size_t frame_payload_offset(size_t header_bytes) {
  const size_t end = sizeof(FramePrefix) + header_bytes;
  return (end + kPayloadAlignment - 1) / kPayloadAlignment * kPayloadAlignment;
}
inline constexpr size_t kMaxFrameBytes =
    frame_payload_offset(kMaxHeaderBytes) + kMaxInlinePayloadBytes;

constexpr bool is_inline(size_t payload_bytes) { return payload_bytes <= kMaxInlinePayloadBytes; }

/// The frame's bytes, the payload included if it is small.
Payload encode_frame(FrameKind kind, std::span<const std::byte> header,
                     std::span<const std::byte> payload);

struct Frame {
  FrameKind kind = FrameKind::kMessage;
  std::span<const std::byte> header;  ///< In the bytes that were decoded, which must outlive it.
  uint64_t payload_bytes = 0;
  Payload payload;  ///< Empty if it follows.
};
/// kDataLoss if the bytes are no frame.
Result<Frame> decode_frame(const Payload& bytes);

}  // namespace pregate::transport
