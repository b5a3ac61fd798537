// The weight files of a checkpoint, read past the page cache.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "base/direct_file.h"
#include "model/checkpoint/checkpoint.h"

namespace pregate::model {

/// Thread-safe.
class DirectFiles {
 public:
  /// Warns in the log where the file system allows no direct reads.
  static Result<std::shared_ptr<const DirectFiles>> open(const Checkpoint& checkpoint);

  /// A part of a tensor of this checkpoint, from its `offset`-th byte. Errors: see DirectFile.
  Result<FileBytes> read(const TensorView& tensor, size_t offset, size_t length) const;

 private:
  std::map<std::string, DirectFile, std::less<>> files_;  // by path
};

}  // namespace pregate::model
