// The directory of a zip file whose entries are stored as they are, which is how torch.save writes.
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace pregate::model {

/// Names and bytes of the entries, both in the file.
using ZipDirectory = std::map<std::string_view, std::span<const std::byte>, std::less<>>;

/// Reads the central directory, of zip64 too, and checks that every entry lies in the file, under
/// its own header, and overlaps no other. Checksums are not looked at: that would read all data.
/// `where` names the file. Errors: kDataLoss for a damaged file, kUnimplemented for compressed or
/// encrypted entries and for archives of several disks.
Result<ZipDirectory> read_zip_directory(std::span<const std::byte> file, const std::string& where);

}  // namespace pregate::model
