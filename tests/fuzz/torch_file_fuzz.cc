// Any bytes as a file of torch.save, and as the pickle of one. What is accepted is a tree that
// ends, and its tensors lie in what they were made of.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "model/checkpoint/torch_file.h"
#include "model/checkpoint/unpickler.h"

namespace {

using namespace pregate;
using Bytes = std::span<const std::byte>;

void require(bool condition) {
  if (!condition) std::abort();
}

bool lies_in(Bytes inner, Bytes outer) {
  return inner.empty() || (inner.data() >= outer.data() &&
                           inner.data() + inner.size() <= outer.data() + outer.size());
}

void check_tensor(const model::TorchTensor& tensor, Bytes storage) {
  require(lies_in(tensor.data, storage));
  require(tensor.shape.size() == tensor.strides.size());
  size_t bytes = tensor.element_bytes;
  for (const size_t extent : tensor.shape) {
    require(!__builtin_mul_overflow(bytes, extent, &bytes));
  }
  if (tensor.is_contiguous()) require(tensor.data.size() == bytes);
  require(model::contiguous_data(tensor, "input").has_value() == tensor.is_contiguous());
}

/// Returns how many values there are.
size_t walk(const model::TorchValue& value, Bytes pickle, Bytes storage, size_t depth) {
  require(depth <= model::kMaxPickleDepth);
  if (const auto text = value.text()) {
    require(lies_in(std::as_bytes(std::span(*text)), pickle));
  }
  if (value.tensor() != nullptr) check_tensor(*value.tensor(), storage);
  size_t num_values = 1;
  if (value.list() != nullptr) {
    for (const auto& each : *value.list()) num_values += walk(each, pickle, storage, depth + 1);
  }
  if (value.dict() != nullptr) {
    for (const auto& [key, each] : value.dict()->items) {
      require(value.dict()->items.size() > 100 || value.dict()->find(key) == &each);
      num_values += walk(each, pickle, storage, depth + 1);
    }
  }
  return num_values;
}

void check(const Result<model::TorchValue>& value, Bytes pickle, Bytes storage) {
  if (value) {
    require(walk(*value, pickle, storage, 0) <= model::kMaxPickleObjects);
  } else {
    require(value.error().code == ErrorCode::kDataLoss ||
            value.error().code == ErrorCode::kUnimplemented);
    require(value.error().message.starts_with("input: "));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file = std::as_bytes(std::span(data, size));
  check(model::parse_torch_file(file, "input"), file, file);

  static const std::vector<std::byte> storage(64);
  const model::StorageFinder storages = [](std::string_view key) -> std::optional<Bytes> {
    if (key.size() > 1) return std::nullopt;
    return storage;
  };
  check(model::unpickle(file, storages, "input"), file, storage);
  return 0;
}
