#include "model/checkpoint/pickle_objects.h"

#include <algorithm>
#include <array>
#include <string>

#include "model/checkpoint/printable.h"

namespace pregate::model {
namespace {

constexpr size_t kMaxDimensions = 64;  // PyTorch's own limit

constexpr std::array kStorageTypes{
    StorageType{"FloatStorage", "F32", 4},        StorageType{"HalfStorage", "F16", 2},
    StorageType{"BFloat16Storage", "BF16", 2},    StorageType{"DoubleStorage", "F64", 8},
    StorageType{"BoolStorage", "BOOL", 1},        StorageType{"ByteStorage", "U8", 1},
    StorageType{"CharStorage", "I8", 1},          StorageType{"ShortStorage", "I16", 2},
    StorageType{"IntStorage", "I32", 4},          StorageType{"LongStorage", "I64", 8},
    StorageType{"ComplexFloatStorage", "C64", 8}, StorageType{"ComplexDoubleStorage", "C128", 16}};

tl::unexpected<Error> bad(std::string_view what) { return fail(ErrorCode::kDataLoss, "{}", what); }

/// A number that is not negative; nothing if `item` is none.
std::optional<size_t> size_of(const PickleItem& item) {
  const auto* value = std::get_if<int64_t>(&item);
  if (value == nullptr || *value < 0) return std::nullopt;
  return size_t(*value);
}

Result<std::vector<size_t>> sizes_of(const PickleItem& item, std::string_view what) {
  const PickleNode* tuple = node_of(item, PickleNode::Kind::kTuple);
  if (tuple == nullptr || tuple->items.size() > kMaxDimensions) {
    return fail(ErrorCode::kDataLoss, "{} of a tensor: expected a tuple of at most {} numbers",
                what, kMaxDimensions);
  }
  std::vector<size_t> sizes;
  for (const PickleItem& each : tuple->items) {
    const auto size = size_of(each);
    if (!size) return fail(ErrorCode::kDataLoss, "{} of a tensor: expected numbers from 0", what);
    sizes.push_back(*size);
  }
  return sizes;
}

/// From the first element to behind the last one; nothing if that overflows, or if there are more
/// elements than can be counted (with a stride of 0 they take no room).
std::optional<size_t> extent_bytes(const TorchTensor& tensor) {
  size_t count = tensor.element_bytes, last = 0;
  for (const size_t extent : tensor.shape) {
    if (__builtin_mul_overflow(count, extent, &count)) return std::nullopt;
  }
  if (count == 0) return 0;
  for (size_t i = 0; i < tensor.shape.size(); ++i) {
    size_t step = 0;
    if (__builtin_mul_overflow(tensor.shape[i] - 1, tensor.strides[i], &step) ||
        __builtin_add_overflow(last, step, &last)) {
      return std::nullopt;
    }
  }
  size_t bytes = 0;
  if (__builtin_add_overflow(last, size_t{1}, &last) ||
      __builtin_mul_overflow(last, tensor.element_bytes, &bytes)) {
    return std::nullopt;
  }
  return bytes;
}

Status place(TorchTensor& tensor, const Storage& storage, size_t offset) {
  const auto bytes = extent_bytes(tensor);
  size_t begin = 0;
  const bool fits = bytes && !__builtin_mul_overflow(offset, tensor.element_bytes, &begin) &&
                    begin <= storage.data.size() && *bytes <= storage.data.size() - begin;
  if (!fits) {
    return fail(ErrorCode::kDataLoss,
                "a tensor of {}, shape [{}], strides [{}], offset {} does not fit its storage of "
                "{} bytes",
                tensor.dtype, fmt::join(tensor.shape, ", "), fmt::join(tensor.strides, ", "),
                offset, storage.data.size());
  }
  tensor.data = storage.data.subspan(begin, *bytes);
  return {};
}

}  // namespace

const PickleNode* node_of(const PickleItem& item, PickleNode::Kind kind) {
  const auto* node = std::get_if<PickleNode*>(&item);
  return node != nullptr && (*node)->kind == kind ? *node : nullptr;
}

std::optional<PickleItem> find_global(std::string_view module, std::string_view name) {
  if (module == "collections" && name == "OrderedDict") return Callable::kOrderedDict;
  if (module == "torch._utils" && name == "_rebuild_tensor_v2") return Callable::kRebuildTensor;
  if (module == "torch._utils" && name == "_rebuild_parameter") return Callable::kRebuildParameter;
  const auto* found = std::find_if(kStorageTypes.begin(), kStorageTypes.end(),
                                   [&](const StorageType& type) { return type.name == name; });
  if (module != "torch" || found == kStorageTypes.end()) return std::nullopt;
  return found;
}

Result<Storage> find_storage(const PickleItem& id, const StorageFinder& storages) {
  const PickleNode* tuple = node_of(id, PickleNode::Kind::kTuple);
  if (tuple == nullptr || tuple->items.size() != 5) return bad("a persistent id of another form");
  const auto* kind = std::get_if<std::string_view>(&tuple->items[0]);
  const auto* type = std::get_if<const StorageType*>(&tuple->items[1]);
  const auto* key = std::get_if<std::string_view>(&tuple->items[2]);
  const auto count = size_of(tuple->items[4]);
  if (kind == nullptr || *kind != "storage" || type == nullptr || key == nullptr || !count) {
    return bad("a persistent id of another form");
  }
  const auto data = storages(*key);
  if (!data) return fail(ErrorCode::kDataLoss, "storage {} is missing", printable(*key));
  size_t bytes = 0;
  if (__builtin_mul_overflow(*count, (*type)->element_bytes, &bytes) || bytes > data->size()) {
    return fail(ErrorCode::kDataLoss, "storage {} has {} bytes, too few for {} x {}",
                printable(*key), data->size(), *count, (*type)->dtype);
  }
  return Storage{*type, data->first(bytes)};
}

Result<PickleItem> rebuild_tensor(std::span<const PickleItem> arguments) {
  if (arguments.size() == 7) {
    return fail(ErrorCode::kUnimplemented,
                "a tensor with metadata, which is not read (is it a conjugated or negated view?)");
  }
  if (arguments.size() != 6) return bad("a tensor made of other things than a storage's");
  const auto* storage = std::get_if<Storage>(&arguments[0]);
  const auto offset = size_of(arguments[1]);
  if (storage == nullptr || !offset) return bad("a tensor without a storage or offset");
  TorchTensor tensor{.dtype = storage->type->dtype, .element_bytes = storage->type->element_bytes};
  PREGATE_ASSIGN(tensor.shape, sizes_of(arguments[2], "shape"));
  PREGATE_ASSIGN(tensor.strides, sizes_of(arguments[3], "strides"));
  if (tensor.shape.size() != tensor.strides.size()) {
    return bad("shape and strides of a tensor differ in length");
  }
  PREGATE_TRY(place(tensor, *storage, *offset));
  return std::make_shared<const TorchTensor>(std::move(tensor));
}

Result<PickleItem> rebuild_parameter(std::span<const PickleItem> arguments) {
  using Tensor = std::shared_ptr<const TorchTensor>;
  if (arguments.size() != 3 || !std::holds_alternative<Tensor>(arguments[0])) {
    return bad("a parameter that is made of no tensor");
  }
  return arguments[0];
}

}  // namespace pregate::model
