// The safetensors format: 8 bytes of header length (little-endian), a JSON header of
// {name: {dtype, shape, data_offsets: [begin, end]}, "__metadata__": {...}}, then the tensors'
// bytes.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "compute/types.h"
#include "model/checkpoint/tensor_file.h"

namespace pregate::model {

/// Longest header the format allows.
inline constexpr size_t kMaxSafetensorsHeaderBytes = 100'000'000;

/// Reads and checks the header of a whole file: each tensor has a known type, as many bytes as
/// its shape needs, and the tensors fill the data section without gaps or overlaps. `where` names
/// the file. Errors: kDataLoss.
Result<TensorTable> parse_safetensors(std::span<const std::byte> file, const std::string& where);

std::string_view safetensors_name(compute::DType dtype);

Result<TensorFile> open_safetensors(const std::filesystem::path& path);

}  // namespace pregate::model
