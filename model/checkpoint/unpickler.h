// Reads the pickles that torch.save writes, without running anything.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "base/result.h"
#include "model/checkpoint/pickle_objects.h"
#include "model/checkpoint/torch_value.h"

namespace pregate::model {

inline constexpr size_t kMaxPickleBytes = 32 << 20;     ///< Some hundred thousand tensors.
inline constexpr size_t kMaxPickleStack = 1 << 20;      ///< Items on the stack, and open marks.
inline constexpr size_t kMaxPickleObjects = 4'000'000;  ///< Memo entries; containers; values.
inline constexpr size_t kMaxPickleDepth = 64;           ///< Containers in containers.

/// Of pickle's opcodes, those of protocols 2 to 5 that build None, bools, integers of 64 bits,
/// floats, strings, tuples, lists, dicts, OrderedDicts (attributes of which, such as _metadata, are
/// left out) and tensors. `where` names the file. Errors: kUnimplemented for any other opcode,
/// global, callable or kind of value, kDataLoss for what no pickler writes and for more than the
/// bounds above.
Result<TorchValue> unpickle(std::span<const std::byte> pickle, const StorageFinder& storages,
                            const std::string& where);

}  // namespace pregate::model
