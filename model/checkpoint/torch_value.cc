#include "model/checkpoint/torch_value.h"

#include <algorithm>
#include <array>

#include "model/checkpoint/printable.h"

namespace pregate::model {

bool TorchTensor::is_contiguous() const {
  if (data.empty()) return true;
  size_t expected = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    if (shape[i] == 1) continue;  // There is no second element for the stride to lead to.
    if (strides[i] != expected) return false;
    expected *= shape[i];
  }
  return true;
}

Result<std::span<const std::byte>> contiguous_data(const TorchTensor& tensor,
                                                   std::string_view where) {
  if (tensor.is_contiguous()) return tensor.data;
  return fail(ErrorCode::kUnimplemented,
              "{}: shape [{}] with strides [{}] is not contiguous; save it again after "
              ".contiguous()",
              where, fmt::join(tensor.shape, ", "), fmt::join(tensor.strides, ", "));
}

const TorchValue* TorchDict::find(const TorchKey& key) const {
  const auto found =
      std::find_if(items.begin(), items.end(), [&](const auto& item) { return item.first == key; });
  return found == items.end() ? nullptr : &found->second;
}

std::string to_string(const TorchKey& key) {
  if (const auto* integer = std::get_if<int64_t>(&key)) return std::to_string(*integer);
  return printable(std::get<std::string_view>(key));
}

std::string_view TorchValue::kind() const {
  constexpr std::array<std::string_view, std::variant_size_v<Content>> kKinds{
      "None", "a bool", "an integer", "a float", "a string", "a list", "a dict", "a tensor"};
  return kKinds[content_.index()];
}

}  // namespace pregate::model
