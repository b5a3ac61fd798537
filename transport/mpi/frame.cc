#include "transport/mpi/frame.h"

namespace pregate::transport {

Payload encode_frame(FrameKind kind, std::span<const std::byte> header,
                     std::span<const std::byte> payload) {
  const FramePrefix prefix{kind, static_cast<uint32_t>(header.size()), payload.size()};
  const size_t offset = frame_payload_offset(header.size());
  const size_t inlined = is_inline(payload.size()) ? payload.size() : 0;
  const auto data = allocate_payload(offset + inlined);
  std::memset(data.get(), 0, offset);
  std::memcpy(data.get(), &prefix, sizeof(prefix));
  if (!header.empty()) std::memcpy(data.get() + sizeof(prefix), header.data(), header.size());
  if (inlined > 0) std::memcpy(data.get() + offset, payload.data(), inlined);
  return {data, offset + inlined};
}

Result<Frame> decode_frame(const Payload& bytes) {
  FramePrefix prefix;
  if (bytes.size() < sizeof(prefix)) {
    return fail(ErrorCode::kDataLoss, "frame of {} bytes, expected at least {}", bytes.size(),
                sizeof(prefix));
  }
  std::memcpy(&prefix, bytes.bytes().data(), sizeof(prefix));
  if (prefix.header_bytes > kMaxHeaderBytes || prefix.payload_bytes > kMaxPayloadBytes) {
    return fail(ErrorCode::kDataLoss, "frame announces {} header and {} payload bytes",
                prefix.header_bytes, prefix.payload_bytes);
  }
  const size_t offset = frame_payload_offset(prefix.header_bytes);
  const size_t inlined = is_inline(prefix.payload_bytes) ? prefix.payload_bytes : 0;
  if (bytes.size() != offset + inlined) {
    return fail(ErrorCode::kDataLoss, "frame of {} bytes, expected {}", bytes.size(),
                offset + inlined);
  }
  Frame frame{prefix.kind,
              bytes.bytes().subspan(sizeof(prefix), prefix.header_bytes),
              prefix.payload_bytes,
              {}};
  if (inlined > 0) frame.payload = bytes.slice(offset, inlined);
  return frame;
}

}  // namespace pregate::transport
