// The bytes of a Hello, the same for every transport (protocol/WIRE.md, "Hello").
#pragma once

#include <array>

#include "transport/transport.h"

namespace pregate::transport {

inline constexpr size_t kHelloBytes = 64;
inline constexpr uint32_t kHelloMagic = 0x54474550;  // "PEGT" in memory order

/// u32 magic, u32 version, u64 incarnation, u16 info size, u16 features, info padded with zeros to
/// 44 bytes; little-endian.
std::array<std::byte, kHelloBytes> encode_hello(const Hello& hello);
/// kDataLoss if the bytes are no hello.
Result<Hello> decode_hello(std::span<const std::byte> bytes);

}  // namespace pregate::transport
