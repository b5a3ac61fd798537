#include "coordinator/placement/placement_file.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>

#include <boost/json.hpp>

#include "base/mapped_file.h"

namespace pregate::coordinator {
namespace {

namespace json = boost::json;

constexpr size_t kMaxFileBytes = 64 << 20;
constexpr int64_t kFormat = 1;

template <typename... Args>
tl::unexpected<Error> fail_at(const std::string& field, fmt::format_string<Args...> format,
                              Args&&... args) {
  return fail(ErrorCode::kInvalidArgument, "{}: {}", field,
              fmt::format(format, std::forward<Args>(args)...));
}

std::optional<uint32_t> parse_number(std::string_view text) {
  uint32_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::optional<uint32_t> as_number(const json::value& value) {
  if (!value.is_int64() || value.get_int64() < 0 || value.get_int64() > UINT32_MAX) {
    return std::nullopt;
  }
  return static_cast<uint32_t>(value.get_int64());
}

/// Builds the table while it walks the document; errors say where it stands.
class FileReader {
 public:
  FileReader(uint64_t version, const PlacementShape& shape, std::span<const WorkerId> workers)
      : shape_(shape), workers_(workers), placement_(version, shape) {}

  Result<Placement> read(const json::value& root) {
    const json::object* object = root.if_object();
    if (object == nullptr) return fail_at("the file", "expected an object");
    for (const auto& member : *object) {
      if (member.key() != "format" && member.key() != "layers") {
        return fail_at(std::string(member.key()), "unknown field, expected format or layers");
      }
    }
    const json::value* format = object->if_contains("format");
    if (format == nullptr || *format != json::value(kFormat)) {
      return fail_at("format", "expected {}", kFormat);
    }
    const json::value* layers = object->if_contains("layers");
    if (layers == nullptr || !layers->is_array()) return fail_at("layers", "expected a list");
    for (size_t i = 0; i < layers->get_array().size(); ++i) {
      PREGATE_TRY(read_entry(layers->get_array()[i], fmt::format("layers[{}]", i)));
    }
    PREGATE_TRY(check_complete());
    return std::move(placement_);
  }

 private:
  Status read_entry(const json::value& entry, const std::string& field) {
    const json::object* object = entry.if_object();
    const json::value* experts = object ? object->if_contains("experts") : nullptr;
    if (experts == nullptr || !experts->is_object() || !object->contains("layers")) {
      return fail_at(field, "expected an object with layers and experts");
    }
    PREGATE_ASSIGN(const auto layers, read_layers(object->at("layers"), field + ".layers"));
    for (const auto& member : experts->get_object()) {
      const std::string key(member.key());
      const std::string at = fmt::format("{}.experts.{}", field, key);
      const auto number = parse_number(key);
      if (!number ||
          std::find(workers_.begin(), workers_.end(), WorkerId(*number)) == workers_.end()) {
        return fail_at(at, "unknown worker, expected one of {}", known_workers());
      }
      PREGATE_TRY(read_experts(member.value(), at, layers, WorkerId(*number)));
    }
    return {};
  }

  Result<std::vector<LayerIdx>> read_layers(const json::value& value, const std::string& field) {
    std::vector<LayerIdx> layers;
    if (value.is_string() && value.get_string() == "all") {
      layers = shape_.layers;
    } else if (!value.is_array()) {
      return fail_at(field, "expected \"all\" or a list of layer numbers");
    } else {
      for (const json::value& item : value.get_array()) {
        const auto number = as_number(item);
        const bool known = number && std::find(shape_.layers.begin(), shape_.layers.end(),
                                               LayerIdx(*number)) != shape_.layers.end();
        if (!known) return fail_at(field, "{} is no MoE layer", json::serialize(item));
        layers.push_back(LayerIdx(*number));
      }
    }
    for (const LayerIdx layer : layers) {
      if (!seen_layers_.insert(layer).second) {
        return fail_at(field, "duplicate: layer {} was placed before", layer);
      }
    }
    return layers;
  }

  Status read_experts(const json::value& value, const std::string& field,
                      const std::vector<LayerIdx>& layers, WorkerId worker) {
    if (!value.is_array()) return fail_at(field, "expected a list of experts");
    std::set<uint32_t> experts;
    const json::array& items = value.get_array();
    for (size_t i = 0; i < items.size(); ++i) {
      const std::string at = fmt::format("{}[{}]", field, i);
      PREGATE_ASSIGN(const auto range, read_range(items[i], at));
      for (uint32_t expert = range.first; expert <= range.second; ++expert) {
        if (!experts.insert(expert).second) {
          return fail_at(at, "duplicate: expert {} was placed at this worker before", expert);
        }
      }
    }
    for (const LayerIdx layer : layers) {
      for (const uint32_t expert : experts) {
        placement_.add_replica(layer, ExpertId(expert), worker);
      }
    }
    return {};
  }

  /// 7 or "0-31"; both ends belong to it.
  Result<std::pair<uint32_t, uint32_t>> read_range(const json::value& item,
                                                   const std::string& field) {
    std::optional<uint32_t> first = as_number(item);
    std::optional<uint32_t> last = first;
    if (item.is_string()) {
      const std::string_view text(item.get_string());
      const size_t dash = text.find('-');
      first = parse_number(text.substr(0, dash));
      last = dash == std::string_view::npos ? first : parse_number(text.substr(dash + 1));
    }
    if (!first || !last || *first > *last) {
      return fail_at(field, "expected a number like 7 or a range like \"0-31\"");
    }
    if (*last >= shape_.num_experts) {
      return fail_at(field, "expert {} is out of range, the model has {} in a layer", *last,
                     shape_.num_experts);
    }
    return std::pair(*first, *last);
  }

  Status check_complete() const {
    for (const LayerIdx layer : shape_.layers) {
      for (uint32_t expert = 0; expert < shape_.num_experts; ++expert) {
        if (placement_.workers(layer, ExpertId(expert)).empty()) {
          return fail_at("layers", "missing: expert {} of layer {} is placed nowhere", expert,
                         layer);
        }
      }
    }
    return {};
  }

  std::string known_workers() const {
    std::string names;
    for (const WorkerId worker : workers_) {
      names += fmt::format("{}{}", names.empty() ? "" : ", ", worker);
    }
    return names;
  }

  const PlacementShape& shape_;
  const std::span<const WorkerId> workers_;
  Placement placement_;
  std::set<LayerIdx> seen_layers_;
};

}  // namespace

Result<Placement> read_placement(const std::filesystem::path& path, uint64_t version,
                                 const PlacementShape& shape, std::span<const WorkerId> workers) {
  PREGATE_ASSIGN(const std::string text, read_file(path, kMaxFileBytes));
  boost::system::error_code error;
  const json::value root = json::parse(text, error);
  if (error) {
    return fail(ErrorCode::kInvalidArgument, "{}: not JSON: {}", path.string(), error.message());
  }
  auto placement = FileReader(version, shape, workers).read(root);
  if (!placement) return fail(in_context(std::move(placement.error()), path.string()));
  return placement;
}

}  // namespace pregate::coordinator
