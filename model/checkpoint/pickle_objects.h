// What the unpickler has on its stack while it works, and the few callables it knows. Nothing is
// looked up anywhere else: a global that is not here does not exist.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "model/checkpoint/torch_value.h"

namespace pregate::model {

enum class Callable : uint8_t { kOrderedDict, kRebuildTensor, kRebuildParameter };

/// A class of torch that only says what elements a storage holds: torch.HalfStorage.
struct StorageType {
  std::string_view name, dtype;
  size_t element_bytes;
};

/// Elements that tensors share.
struct Storage {
  const StorageType* type = nullptr;
  std::span<const std::byte> data;
};

struct PickleNode;

/// Small, and copied freely; containers are pointed to, because a pickle fills them after it has
/// put them somewhere.
using PickleItem =
    std::variant<std::monostate, bool, int64_t, double, std::string_view, Callable,
                 const StorageType*, Storage, std::shared_ptr<const TorchTensor>, PickleNode*>;

struct PickleNode {
  enum class Kind : uint8_t { kTuple, kList, kDict, kOrderedDict };
  Kind kind;
  std::vector<PickleItem> items;  ///< Of a dict: key, value, key, value.
};

/// The bytes of a storage by its key; nothing if the file has none.
using StorageFinder =
    std::function<std::optional<std::span<const std::byte>>(std::string_view key)>;

/// Nothing if it is none of the known ones.
std::optional<PickleItem> find_global(std::string_view module, std::string_view name);

/// What a persistent id stands for: a tuple of "storage", its type, key, device, elements.
Result<Storage> find_storage(const PickleItem& id, const StorageFinder& storages);

/// torch._utils._rebuild_tensor_v2: (storage, offset, shape, strides, requires_grad, hooks)
Result<PickleItem> rebuild_tensor(std::span<const PickleItem> arguments);
/// torch._utils._rebuild_parameter: (tensor, requires_grad, hooks)
Result<PickleItem> rebuild_parameter(std::span<const PickleItem> arguments);

/// Null if it is no container of this kind.
const PickleNode* node_of(const PickleItem& item, PickleNode::Kind kind);

}  // namespace pregate::model
