#include "model/checkpoint/tensor_files.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "model/checkpoint/field_reader.h"
#include "model/checkpoint/safetensors.h"
#include "model/checkpoint/torch_file.h"

namespace pregate::model {
namespace {

namespace fs = std::filesystem;

/// How a directory holds its weights: by an index, in a single file, or in every file of a pattern.
struct WeightFileNames {
  std::string_view index, single, prefix, extension;
  Result<TensorFile> (*open)(const fs::path& path);
};

// The first one wins that a directory has files of.
constexpr std::array kFileNames{WeightFileNames{"model.safetensors.index.json", "model.safetensors",
                                                "", ".safetensors", open_safetensors},
                                WeightFileNames{"pytorch_model.bin.index.json", "pytorch_model.bin",
                                                "pytorch_model", ".bin", open_torch_weights}};

Result<std::vector<fs::path>> weight_files(const fs::path& directory,
                                           const WeightFileNames& names) {
  if (fs::path single = directory / names.single; fs::exists(single)) return std::vector{single};
  std::error_code error;
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(names.prefix) && entry.path().extension() == names.extension) {
      paths.push_back(entry.path());
    }
  }
  if (error) {
    return fail(ErrorCode::kNotFound, "{}: cannot list: {}", directory.string(), error.message());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

tl::unexpected<Error> no_weights(const fs::path& directory) {
  std::vector<std::string> expected;
  for (const WeightFileNames& names : kFileNames) {
    expected.push_back(fmt::format("{}, {} or other {}*{}", names.single, names.index, names.prefix,
                                   names.extension));
  }
  return fail(ErrorCode::kNotFound, "{}: no weights: expected {}", directory.string(),
              fmt::join(expected, ", or "));
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
  for (const WeightFileNames& names : kFileNames) {
    TensorFiles result;
    if (const fs::path index = directory / names.index; fs::exists(index)) {
      PREGATE_TRY(result.open_indexed(index, names.open));
      return result;
    }
    PREGATE_ASSIGN(const auto paths, weight_files(directory, names));
    if (paths.empty()) continue;
    PREGATE_TRY(result.open_all(paths, names.open));
    return result;
  }
  return no_weights(directory);
}

Result<const TensorFile*> TensorFiles::add_file(const fs::path& path, OpenFile open_file) {
  PREGATE_ASSIGN(TensorFile file, open_file(path));
  return &files_.emplace_back(std::move(file));
}

Status TensorFiles::open_indexed(const fs::path& index, OpenFile open_file) {
  PREGATE_ASSIGN(const boost::json::object object, read_json_object(index));
  const boost::json::value* map = object.if_contains("weight_map");
  if (map == nullptr || !map->is_object()) {
    return fail(ErrorCode::kDataLoss, "{}: weight_map: expected an object", index.string());
  }
  std::map<fs::path, const TensorFile*> opened;
  for (const auto& [key, shard] : map->get_object()) {
    PREGATE_ASSIGN(const fs::path path, shard_path(index, shard));
    const TensorFile*& file = opened[path];
    if (file == nullptr) {
      PREGATE_ASSIGN(file, add_file(path, open_file));
    }
    const auto found = file->tensors().find(std::string(key));
    if (found == file->tensors().end()) {
      return fail(ErrorCode::kDataLoss, "{}: tensor {} is missing, though {} lists it",
                  path.string(), std::string(key), index.filename().string());
    }
    tensors_[std::string(key)] = {file, &found->second};
  }
  return {};
}

Status TensorFiles::open_all(const std::vector<fs::path>& paths, OpenFile open_file) {
  for (const fs::path& path : paths) {
    PREGATE_ASSIGN(const TensorFile* file, add_file(path, open_file));
    for (const auto& [name, entry] : file->tensors()) {
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
