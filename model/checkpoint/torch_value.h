// What torch.save saved: tensors in plain containers. Strings and tensors point into the file that
// they were read from and are valid while it stays mapped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"

namespace pregate::model {

struct TorchTensor {
  std::string_view dtype;  ///< As safetensors spells it: "F16", "BOOL"; "C128" beyond it.
  size_t element_bytes = 0;
  std::vector<size_t> shape;
  std::vector<size_t> strides;      ///< In elements, one per dimension.
  std::span<const std::byte> data;  ///< From the first element to the last, maybe not aligned.

  /// Row-major and without gaps, so that `data` is the elements one after the other.
  bool is_contiguous() const;
};

/// The elements one after the other, in the file. Tensors that do not lie so there (transposed,
/// expanded, every other row) are refused with kUnimplemented; `where` names file and tensor.
Result<std::span<const std::byte>> contiguous_data(const TorchTensor& tensor,
                                                   std::string_view where);

class TorchValue;
using TorchKey = std::variant<int64_t, std::string_view>;
using TorchList = std::vector<TorchValue>;

/// A dict or OrderedDict, in the order of the file; no key occurs twice.
struct TorchDict {
  std::vector<std::pair<TorchKey, TorchValue>> items;

  /// Looks at one key after the other. Null if there is none.
  const TorchValue* find(const TorchKey& key) const;
};

/// "residual", 0
std::string to_string(const TorchKey& key);

/// Immutable, cheap to copy: the containers are shared.
class TorchValue {
 public:
  using Content = std::variant<std::monostate, bool, int64_t, double, std::string_view,
                               std::shared_ptr<const TorchList>, std::shared_ptr<const TorchDict>,
                               std::shared_ptr<const TorchTensor>>;

  TorchValue() = default;
  explicit TorchValue(Content content) : content_(std::move(content)) {}

  bool is_none() const { return std::holds_alternative<std::monostate>(content_); }
  std::optional<bool> flag() const { return plain<bool>(); }
  std::optional<int64_t> integer() const { return plain<int64_t>(); }
  std::optional<double> real() const { return plain<double>(); }
  std::optional<std::string_view> text() const { return plain<std::string_view>(); }
  // Null if it is something else. A tuple is a list.
  const TorchList* list() const { return shared<TorchList>(); }
  const TorchDict* dict() const { return shared<TorchDict>(); }
  const TorchTensor* tensor() const { return shared<TorchTensor>(); }
  /// For messages: "a dict".
  std::string_view kind() const;

 private:
  template <typename T>
  std::optional<T> plain() const {
    const T* value = std::get_if<T>(&content_);
    return value == nullptr ? std::nullopt : std::optional<T>(*value);
  }
  template <typename T>
  const T* shared() const {
    const auto* value = std::get_if<std::shared_ptr<const T>>(&content_);
    return value == nullptr ? nullptr : value->get();
  }

  Content content_;
};

}  // namespace pregate::model
