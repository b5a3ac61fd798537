#include "transport/hello.h"

#include <bit>
#include <cstring>

#include "base/check.h"

namespace pregate::transport {

static_assert(std::endian::native == std::endian::little, "the wire is little-endian");

namespace {

struct HelloWire {
  uint32_t magic;
  uint32_t version;
  uint64_t incarnation;
  uint16_t info_bytes;
  uint16_t features;
  std::array<std::byte, kMaxHelloInfoBytes> info;
};
static_assert(sizeof(HelloWire) == kHelloBytes);

}  // namespace

std::array<std::byte, kHelloBytes> encode_hello(const Hello& hello) {
  PREGATE_CHECK(hello.info.size() <= kMaxHelloInfoBytes);
  HelloWire wire{kHelloMagic,       hello.version,
                 hello.incarnation, uint16_t(hello.info.size()),
                 hello.features,    {}};
  std::copy(hello.info.begin(), hello.info.end(), wire.info.begin());
  return std::bit_cast<std::array<std::byte, kHelloBytes>>(wire);
}

Result<Hello> decode_hello(std::span<const std::byte> bytes) {
  if (bytes.size() != kHelloBytes) {
    return fail(ErrorCode::kDataLoss, "hello of {} bytes, expected {}", bytes.size(), kHelloBytes);
  }
  HelloWire wire;
  std::memcpy(&wire, bytes.data(), sizeof(wire));
  if (wire.magic != kHelloMagic || wire.info_bytes > kMaxHelloInfoBytes) {
    return fail(ErrorCode::kDataLoss, "the first message is no hello");
  }
  Hello hello{wire.version, wire.incarnation, {}, wire.features};
  hello.info.assign(wire.info.begin(), wire.info.begin() + wire.info_bytes);
  return hello;
}

}  // namespace pregate::transport
