#include "model/fingerprint.h"

#include <algorithm>

#include "model/checkpoint/checkpoint.h"

namespace pregate::model {
namespace {

constexpr size_t kSampledTensors = 64;
constexpr size_t kSampledBytes = 256;

/// FNV-1a, 64 bits.
class Hash {
 public:
  void add(std::span<const std::byte> bytes) {
    for (const std::byte byte : bytes) value_ = (value_ ^ uint64_t(byte)) * 0x100000001b3;
  }
  void add(uint64_t number) { add(std::as_bytes(std::span(&number, 1))); }
  uint64_t value() const { return value_; }

 private:
  uint64_t value_ = 0xcbf29ce484222325;
};

}  // namespace

Result<uint64_t> fingerprint(const Checkpoint& checkpoint) {
  auto names = checkpoint.tensor_names();
  std::sort(names.begin(), names.end());
  const size_t stride = names.size() / kSampledTensors + 1;
  Hash hash;
  for (size_t i = 0; i < names.size(); ++i) {
    PREGATE_ASSIGN(const TensorView tensor, checkpoint.tensor(names[i]));
    hash.add(names[i].size());
    hash.add(std::as_bytes(std::span(names[i])));
    hash.add(uint64_t(tensor.dtype));
    hash.add(tensor.shape.size());
    for (const size_t extent : tensor.shape) hash.add(extent);
    if (i % stride == 0) hash.add({tensor.data, std::min(tensor.bytes, kSampledBytes)});
  }
  return hash.value();
}

}  // namespace pregate::model
