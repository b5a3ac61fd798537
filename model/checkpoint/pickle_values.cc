#include "model/checkpoint/pickle_values.h"

#include <algorithm>
#include <unordered_map>

#include "model/checkpoint/unpickler.h"

namespace pregate::model {
namespace {

class ValueBuilder {
 public:
  struct Built {
    TorchValue value;
    size_t num_values = 1;  ///< It and all in it.
    size_t height = 0;      ///< It, if it is a container, and those in it.
  };

  Result<Built> build(const PickleItem& item) {
    if (const auto* node = std::get_if<PickleNode*>(&item)) return build_once(**node);
    return std::visit([](const auto& content) { return leaf(content); }, item);
  }

 private:
  static Result<Built> leaf(const Callable&) {
    return fail(ErrorCode::kUnimplemented, "a function as a value, which is not read");
  }
  static Result<Built> leaf(const StorageType* const&) {
    return fail(ErrorCode::kUnimplemented, "a class as a value, which is not read");
  }
  static Result<Built> leaf(const Storage&) {
    return fail(ErrorCode::kUnimplemented, "a storage without a tensor, which is not read");
  }
  static Result<Built> leaf(PickleNode* const&) { return Built{}; }  // build() takes those
  template <typename T>
  static Result<Built> leaf(const T& content) {
    return Built{.value = TorchValue(content)};
  }

  /// A container that is in several places is built once and shared.
  Result<Built> build_once(const PickleNode& node) {
    const auto [at, is_new] = built_.emplace(&node, std::nullopt);
    if (!is_new && !at->second) return fail(ErrorCode::kDataLoss, "a container contains itself");
    if (!is_new) return *at->second;
    if (++depth_ > kMaxPickleDepth) return too_deep();
    const bool is_list =
        node.kind == PickleNode::Kind::kTuple || node.kind == PickleNode::Kind::kList;
    PREGATE_ASSIGN(Built built, is_list ? build_list(node) : build_dict(node));
    --depth_;
    return *(built_[&node] = std::move(built));
  }

  Result<Built> build_list(const PickleNode& node) {
    Built result{.height = 1};
    TorchList list;
    list.reserve(node.items.size());
    for (const PickleItem& item : node.items) {
      PREGATE_ASSIGN(Built built, build(item));
      PREGATE_TRY(add(built, result));
      list.push_back(std::move(built.value));
    }
    result.value = TorchValue(std::make_shared<const TorchList>(std::move(list)));
    return result;
  }

  Result<Built> build_dict(const PickleNode& node) {
    Built result{.height = 1};
    TorchDict dict;
    dict.items.reserve(node.items.size() / 2);
    for (size_t i = 0; i + 1 < node.items.size(); i += 2) {
      PREGATE_ASSIGN(const TorchKey key, to_key(node.items[i]));
      PREGATE_ASSIGN(Built built, build(node.items[i + 1]));
      PREGATE_TRY(add(built, result));
      dict.items.emplace_back(key, std::move(built.value));
    }
    PREGATE_TRY(check_keys(dict));
    result.value = TorchValue(std::make_shared<const TorchDict>(std::move(dict)));
    return result;
  }

  static Status add(const Built& inner, Built& outer) {
    outer.num_values += inner.num_values;
    outer.height = std::max(outer.height, inner.height + 1);
    if (outer.height > kMaxPickleDepth) return too_deep();
    if (outer.num_values <= kMaxPickleObjects) return {};
    return fail(ErrorCode::kDataLoss, "more than {} values", kMaxPickleObjects);
  }

  static tl::unexpected<Error> too_deep() {
    return fail(ErrorCode::kDataLoss, "containers nested more than {} deep", kMaxPickleDepth);
  }

  static Result<TorchKey> to_key(const PickleItem& item) {
    if (const auto* text = std::get_if<std::string_view>(&item)) return *text;
    if (const auto* integer = std::get_if<int64_t>(&item)) return *integer;
    return fail(ErrorCode::kUnimplemented, "a dict with a key that is no string and no integer");
  }

  static Status check_keys(const TorchDict& dict) {
    std::vector<TorchKey> keys;
    keys.reserve(dict.items.size());
    for (const auto& item : dict.items) keys.push_back(item.first);
    std::sort(keys.begin(), keys.end());
    const auto twice = std::adjacent_find(keys.begin(), keys.end());
    if (twice == keys.end()) return {};
    return fail(ErrorCode::kDataLoss, "key {} occurs twice in a dict", to_string(*twice));
  }

  /// Nothing while a container is being built.
  std::unordered_map<const PickleNode*, std::optional<Built>> built_;
  size_t depth_ = 0;
};

}  // namespace

Result<TorchValue> to_value(const PickleItem& root) {
  PREGATE_ASSIGN(auto built, ValueBuilder().build(root));
  return built.value;
}

}  // namespace pregate::model
