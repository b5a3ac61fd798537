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
  FileReader(uint64_t version, const PlacementShape& shape, const WorkerKeys& workers)
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
      const auto worker = workers_.find(key);
      if (!worker) return fail_at(at, "unknown worker, expected one of {}", workers_.known);
      PREGATE_TRY(read_experts(member.value(), at, layers, *worker));
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

  const PlacementShape& shape_;
  const WorkerKeys& workers_;
  Placement placement_;
  std::set<LayerIdx> seen_layers_;
};

/// "2" and "worker-2" are both 2.
std::optional<uint32_t> number_at_end(std::string_view key) {
  const size_t last_other = key.find_last_not_of("0123456789");
  return parse_number(last_other == std::string_view::npos ? key : key.substr(last_other + 1));
}

/// [1, 2, 3, 7] as ["1-3", 7].
json::array to_items(const std::vector<uint32_t>& experts) {
  json::array items;
  for (size_t i = 0; i < experts.size();) {
    size_t end = i + 1;
    while (end < experts.size() && experts[end] == experts[end - 1] + 1) ++end;
    if (end - i == 1) {
      items.emplace_back(experts[i]);
    } else {
      items.emplace_back(fmt::format("{}-{}", experts[i], experts[end - 1]));
    }
    i = end;
  }
  return items;
}

json::object experts_of_layer(const Placement& placement, LayerIdx layer,
                              const std::map<WorkerId, std::string>& names) {
  std::map<WorkerId, std::vector<uint32_t>> held;
  for (uint32_t expert = 0; expert < placement.num_experts(); ++expert) {
    for (const WorkerId worker : placement.workers(layer, ExpertId(expert))) {
      held[worker].push_back(expert);
    }
  }
  json::object experts;
  for (const auto& [worker, list] : held) {
    const auto name = names.find(worker);
    experts[name == names.end() ? fmt::format("{}", worker) : name->second] = to_items(list);
  }
  return experts;
}

}  // namespace

WorkerKeys numbered_workers(std::vector<WorkerId> workers) {
  std::string known = fmt::format("{}", fmt::join(workers, ", "));
  return {.find = [workers = std::move(workers)](std::string_view key) -> std::optional<WorkerId> {
            const auto number = number_at_end(key);
            if (!number || std::ranges::count(workers, WorkerId(*number)) == 0) return {};
            return WorkerId(*number);
          },
          .known = std::move(known)};
}

WorkerKeys future_workers(uint32_t max_id) {
  return {.find = [max_id](std::string_view key) -> std::optional<WorkerId> {
            const auto number = number_at_end(key);
            if (!number || *number == 0 || *number > max_id) return {};
            return WorkerId(*number);
          },
          .known = fmt::format("1 to {}, or a name that ends so", max_id)};
}

WorkerKeys named_workers(std::map<std::string, WorkerId, std::less<>> workers) {
  std::string known;
  for (const auto& [name, worker] : workers) {
    known += fmt::format("{}{}", known.empty() ? "" : ", ", name);
  }
  return {.find = [workers = std::move(workers)](std::string_view key) -> std::optional<WorkerId> {
            const auto found = workers.find(key);
            if (found == workers.end()) return {};
            return found->second;
          },
          .known = std::move(known)};
}

Result<Placement> parse_placement(std::string_view text, uint64_t version,
                                  const PlacementShape& shape, const WorkerKeys& workers) {
  boost::system::error_code error;
  const json::value root = json::parse(json::string_view(text.data(), text.size()), error);
  if (error) return fail(ErrorCode::kInvalidArgument, "not JSON: {}", error.message());
  return FileReader(version, shape, workers).read(root);
}

Result<Placement> read_placement(const std::filesystem::path& path, uint64_t version,
                                 const PlacementShape& shape, const WorkerKeys& workers) {
  PREGATE_ASSIGN(const std::string text, read_file(path, kMaxFileBytes));
  auto placement = parse_placement(text, version, shape, workers);
  if (!placement) return fail(in_context(std::move(placement.error()), path.string()));
  return placement;
}

json::object write_placement(const Placement& placement, const PlacementShape& shape,
                             const std::map<WorkerId, std::string>& names) {
  // Layers that are placed alike share an entry.
  std::vector<std::pair<json::object, json::array>> groups;
  for (const LayerIdx layer : shape.layers) {
    json::object experts = experts_of_layer(placement, layer, names);
    auto group = std::ranges::find_if(groups, [&](const auto& g) { return g.first == experts; });
    if (group == groups.end()) group = groups.insert(groups.end(), {std::move(experts), {}});
    group->second.emplace_back(layer.value);
  }
  json::array layers;
  for (auto& [experts, numbers] : groups) {
    const json::value which = groups.size() == 1 ? json::value("all") : json::value(numbers);
    layers.push_back(json::object{{"layers", which}, {"experts", std::move(experts)}});
  }
  return {{"format", kFormat}, {"layers", std::move(layers)}};
}

}  // namespace pregate::coordinator
