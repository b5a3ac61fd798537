// The two directions of the codec: a message lists its fields once, an Encoder writes them and a
// Decoder reads them.
#pragma once

#include <array>
#include <bit>
#include <cstring>
#include <string>
#include <type_traits>

#include "protocol/codec.h"

namespace pregate::protocol {

static_assert(std::endian::native == std::endian::little, "the wire is little-endian");

template <typename T>
concept Number = std::is_arithmetic_v<T> && !std::is_same_v<T, bool>;

class Encoder {
 public:
  explicit Encoder(Bytes& out) : out_(out) {}

  void operator()(const char*, Number auto value) { append(&value, sizeof(value)); }
  void operator()(const char* field, bool value) { (*this)(field, static_cast<uint8_t>(value)); }
  template <typename Tag, typename Rep>
  void operator()(const char* field, StrongId<Tag, Rep> id) {
    (*this)(field, id.value);
  }
  void operator()(const char* field, ErrorCode code) { (*this)(field, static_cast<uint8_t>(code)); }
  template <size_t N>
  void operator()(const char*, const std::array<std::byte, N>& bytes) {
    append(bytes.data(), N);
  }
  void operator()(const char* field, const std::string& text) {
    append_text(field, text, kMaxTextBytes);
  }
  void name(const char* field, const std::string& text) { append_text(field, text, kMaxNameBytes); }
  void zeros(const char*, size_t count);

 private:
  void append_text(const char* field, const std::string& text, size_t max_bytes);
  void append(const void* data, size_t size);

  Bytes& out_;
};

/// After the first field that does not fit, the others keep their values and error() names it.
class Decoder {
 public:
  explicit Decoder(ByteView in) : in_(in) {}

  void operator()(const char* field, Number auto& value) { take(field, &value, sizeof(value)); }
  void operator()(const char* field, bool& value) {
    uint8_t byte = 0;
    (*this)(field, byte);
    if (byte > 1) reject(field, "is neither 0 nor 1");
    value = byte == 1;
  }
  template <typename Tag, typename Rep>
  void operator()(const char* field, StrongId<Tag, Rep>& id) {
    (*this)(field, id.value);
  }
  void operator()(const char* field, ErrorCode& code) {
    uint8_t byte = 0;
    (*this)(field, byte);
    code =
        byte <= static_cast<uint8_t>(ErrorCode::kInternal) ? ErrorCode(byte) : ErrorCode::kUnknown;
  }
  template <size_t N>
  void operator()(const char* field, std::array<std::byte, N>& bytes) {
    take(field, bytes.data(), N);
  }
  void operator()(const char* field, std::string& text) { take_text(field, text, kMaxTextBytes); }
  void name(const char* field, std::string& text) { take_text(field, text, kMaxNameBytes); }
  void zeros(const char* field, size_t count) {
    for (size_t i = 0; i < count; ++i) {
      uint8_t byte = 0;
      (*this)(field, byte);
      if (byte != 0) reject(field, "is not zero");
    }
  }

  void reject(const char* field, const char* what) {
    if (!failed()) error_ = fmt::format("{} {}", field, what);
  }
  bool failed() const { return !error_.empty(); }
  const std::string& error() const { return error_; }
  size_t num_left() const { return in_.size(); }

 private:
  void take(const char* field, void* out, size_t size) {
    if (failed()) return;
    if (in_.size() < size) return reject(field, "is cut off");
    if (size > 0) std::memcpy(out, in_.data(), size);
    in_ = in_.subspan(size);
  }
  void take_text(const char* field, std::string& text, size_t max_bytes) {
    uint16_t size = 0;
    (*this)(field, size);
    if (size > max_bytes) return reject(field, "is too long");
    std::string value(size, '\0');
    take(field, value.data(), size);
    text = std::move(value);
  }

  ByteView in_;
  std::string error_;
};

}  // namespace pregate::protocol
