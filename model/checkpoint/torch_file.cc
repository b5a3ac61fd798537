#include "model/checkpoint/torch_file.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include "model/checkpoint/unpickler.h"
#include "model/checkpoint/zip_directory.h"

namespace pregate::model {
namespace {

// A pickle of the number that marks PyTorch's form before 1.6.
constexpr std::string_view kOldForm = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
constexpr std::string_view kPickleName = "/data.pkl";

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// The one name at the top under which everything lies.
Result<std::string> find_prefix(const ZipDirectory& entries, const std::string& where) {
  std::optional<std::string> prefix;
  for (const auto& [name, data] : entries) {
    if (name.find('/') + kPickleName.size() != name.size() || !name.ends_with(kPickleName))
      continue;
    if (prefix) return fail(ErrorCode::kDataLoss, "{}: has more than one data.pkl", where);
    prefix = name.substr(0, name.size() - kPickleName.size());
  }
  if (prefix) return *prefix;
  return fail(ErrorCode::kDataLoss,
              "{}: a zip file without a data.pkl: torch.save did not write it", where);
}

Status check_byte_order(const ZipDirectory& entries, const std::string& prefix,
                        const std::string& where) {
  const auto found = entries.find(prefix + "/byteorder");
  if (found == entries.end() || text_of(found->second) == "little") return {};
  if (text_of(found->second) == "big") {
    return fail(ErrorCode::kUnimplemented, "{}: saved on a big-endian machine, which is not read",
                where);
  }
  return fail(ErrorCode::kDataLoss, "{}: byteorder: expected \"little\"", where);
}

/// `tensor` lies in `file`.
Result<TensorEntry> to_entry(const TorchTensor& tensor, const MappedFile& file,
                             const std::string& where) {
  PREGATE_ASSIGN(const auto data, contiguous_data(tensor, where));
  const size_t begin = data.empty() ? 0 : size_t(data.data() - file.bytes().data());
  return TensorEntry{.dtype = std::string(tensor.dtype),
                     .shape = tensor.shape,
                     .begin_bytes = begin,
                     .end_bytes = begin + data.size()};
}

Result<TensorTable> to_table(const TorchValue& root, const MappedFile& file,
                             const std::string& where) {
  const TorchDict* state = root.dict();
  if (state == nullptr) {
    return fail(ErrorCode::kDataLoss, "{}: expected a dict of tensors, found {}", where,
                root.kind());
  }
  TensorTable table;
  for (const auto& [key, value] : state->items) {
    const std::string here = where + ": " + to_string(key);
    const auto* name = std::get_if<std::string_view>(&key);
    const TorchTensor* tensor = value.tensor();
    if (name == nullptr || tensor == nullptr) {
      return fail(ErrorCode::kDataLoss, "{}: expected a tensor with a name, found {}", here,
                  value.kind());
    }
    PREGATE_ASSIGN(table[std::string(*name)], to_entry(*tensor, file, here));
  }
  return table;
}

}  // namespace

Result<TorchValue> parse_torch_file(std::span<const std::byte> file, const std::string& where) {
  if (text_of(file).starts_with(kOldForm)) {
    return fail(ErrorCode::kUnimplemented,
                "{}: saved in PyTorch's old form; save it again with torch.save(..., "
                "_use_new_zipfile_serialization=True)",
                where);
  }
  PREGATE_ASSIGN(const ZipDirectory entries, read_zip_directory(file, where));
  PREGATE_ASSIGN(const std::string prefix, find_prefix(entries, where));
  PREGATE_TRY(check_byte_order(entries, prefix, where));
  const StorageFinder storages =
      [&](std::string_view key) -> std::optional<std::span<const std::byte>> {
    const auto found = entries.find(prefix + "/data/" + std::string(key));
    if (found == entries.end()) return std::nullopt;
    return found->second;
  };
  return unpickle(entries.find(prefix + std::string(kPickleName))->second, storages, where);
}

Result<TorchFile> TorchFile::open(const std::filesystem::path& path) {
  TorchFile result;
  result.path_ = path;
  PREGATE_ASSIGN(result.file_, MappedFile::open(path));
  PREGATE_ASSIGN(result.root_, parse_torch_file(result.file_.bytes(), path.string()));
  return result;
}

Result<TensorFile> open_torch_weights(const std::filesystem::path& path) {
  PREGATE_ASSIGN(MappedFile file, MappedFile::open(path));
  PREGATE_ASSIGN(const TorchValue root, parse_torch_file(file.bytes(), path.string()));
  PREGATE_ASSIGN(TensorTable table, to_table(root, file, path.string()));
  return TensorFile(path, std::move(file), std::move(table));
}

}  // namespace pregate::model
