#include "model/checkpoint/tensor_files.h"

#include <algorithm>

#include "model/checkpoint/field_reader.h"

namespace pregate::model {
namespace {

namespace fs = std::filesystem;

constexpr const char* kIndexName = "model.safetensors.index.json";
constexpr const char* kSingleName = "model.safetensors";

Result<std::vector<fs::path>> weight_files(const fs::path& directory) {
  if (fs::path single = directory / kSingleName; fs::exists(single)) return std::vector{single};
  std::error_code error;
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    if (entry.path().extension() == ".safetensors") paths.push_back(entry.path());
  }
  if (error) {
    return fail(ErrorCode::kNotFound, "{}: cannot list: {}", directory.string(), error.message());
  }
  if (paths.empty()) {
    return fail(ErrorCode::kNotFound, "{}: no weights: expected {}, {} or other *.safetensors",
                directory.string(), kSingleName, kIndexName);
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

/// Shards lie beside the index: a name that leads elsewhere is refused.
Result<fs::path> shard_path(const fs::path& index, const boost::json::value& shard) {
  const fs::path name(shard.is_string() ? std::string(shard.get_string()) : "");
  if (name.empty() || name != name.filename()) {
    return fail(ErrorCode::kDataLoss, "{}: weight_map: expected file names, found {}",
                index.string(), boost::json::serialize(shard));
  }
  fs::path path = index.parent_path() / name;
  if (!fs::exists(path)) {
    return fail(ErrorCode::kNotFound, "{}: missing, though listed in {}", path.string(),
                index.filename().string());
  }
  return path;
}

}  // namespace

Result<TensorFiles> TensorFiles::open(const fs::path& directory) {
  TensorFiles result;
  if (const fs::path index = directory / kIndexName; fs::exists(index)) {
    PREGATE_TRY(result.open_indexed(index));
  } else {
    PREGATE_ASSIGN(const auto paths, weight_files(directory));
    PREGATE_TRY(result.open_all(paths));
  }
  return result;
}

Result<const SafetensorsFile*> TensorFiles::add_file(const fs::path& path) {
  PREGATE_ASSIGN(SafetensorsFile file, SafetensorsFile::open(path));
  return &files_.emplace_back(std::move(file));
}

Status TensorFiles::open_indexed(const fs::path& index) {
  PREGATE_ASSIGN(const boost::json::object object, read_json_object(index));
  const boost::json::value* map = object.if_contains("weight_map");
  if (map == nullptr || !map->is_object()) {
    return fail(ErrorCode::kDataLoss, "{}: weight_map: expected an object", index.string());
  }
  std::map<fs::path, const SafetensorsFile*> opened;
  for (const auto& [key, shard] : map->get_object()) {
    PREGATE_ASSIGN(const fs::path path, shard_path(index, shard));
    const SafetensorsFile*& file = opened[path];
    if (file == nullptr) {
      PREGATE_ASSIGN(file, add_file(path));
    }
    const auto found = file->header().find(std::string(key));
    if (found == file->header().end()) {
      return fail(ErrorCode::kDataLoss, "{}: tensor {} is missing, though {} lists it",
                  path.string(), std::string(key), index.filename().string());
    }
    tensors_[std::string(key)] = {file, &found->second};
  }
  return {};
}

Status TensorFiles::open_all(const std::vector<fs::path>& paths) {
  for (const fs::path& path : paths) {
    PREGATE_ASSIGN(const SafetensorsFile* file, add_file(path));
    for (const auto& [name, entry] : file->header()) {
      const auto [at, is_new] = tensors_.emplace(name, TensorLocation{file, &entry});
      if (!is_new) {
        return fail(ErrorCode::kDataLoss, "{}: tensor {} is also in {}", path.string(), name,
                    at->second.file->path().string());
      }
    }
  }
  return {};
}

}  // namespace pregate::model
