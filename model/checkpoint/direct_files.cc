#include "model/checkpoint/direct_files.h"

#include "base/check.h"
#include "base/log.h"

namespace pregate::model {

Result<std::shared_ptr<const DirectFiles>> DirectFiles::open(const Checkpoint& checkpoint) {
  auto direct = std::make_shared<DirectFiles>();
  for (const std::string& name : checkpoint.tensor_names()) {
    const auto tensor = checkpoint.tensor(name);
    if (!tensor || direct->files_.contains(tensor->file)) continue;  // no weight, or known
    PREGATE_ASSIGN(DirectFile file, DirectFile::open(tensor->file));
    const bool is_first_refusal = !file.is_direct() && direct->files_.empty();
    if (is_first_refusal) {
      spdlog::warn(
          "{}: this file system has no direct reads: experts are read through the page cache, "
          "so their times are not the disk's",
          tensor->file);
    }
    direct->files_.emplace(tensor->file, std::move(file));
  }
  return direct;
}

Result<FileBytes> DirectFiles::read(const TensorView& tensor, size_t offset, size_t length) const {
  const auto file = files_.find(tensor.file);
  PREGATE_CHECK(file != files_.end());
  return file->second.read(tensor.file_offset + offset, length);
}

}  // namespace pregate::model
