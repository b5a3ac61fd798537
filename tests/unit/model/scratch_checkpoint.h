// Writes small model directories, whole or damaged, for the tests of this folder.
#pragma once

#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include <boost/json.hpp>
#include <gtest/gtest.h>

#include "model/families/family.h"
#include "tests/support/scratch_directory.h"

namespace pregate::model {

/// The bytes of a safetensors file with this header text, then `data_bytes` zero bytes.
inline std::string safetensors_bytes(const std::string& header, size_t data_bytes) {
  std::string file(8, '\0');
  const uint64_t length = header.size();
  std::memcpy(file.data(), &length, sizeof(length));
  return file + header + std::string(data_bytes, '\0');
}

struct ScratchTensor {
  std::vector<size_t> shape;
  std::vector<float> values;
  std::string f8 = {};  ///< If not empty, the tensor is of this type and these are its bytes.
};
using ScratchTensors = std::map<std::string, ScratchTensor>;

inline std::string safetensors_bytes(const ScratchTensors& tensors) {
  boost::json::object header;
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    const size_t begin = data.size();
    const bool is_f8 = !tensor.f8.empty();
    if (is_f8) {
      data += tensor.f8;
    } else {
      data.append(reinterpret_cast<const char*>(tensor.values.data()), tensor.values.size() * 4);
    }
    header[name] = {{"dtype", is_f8 ? "F8_E4M3" : "F32"},
                    {"shape", boost::json::value_from(tensor.shape)},
                    {"data_offsets", boost::json::array{begin, data.size()}}};
  }
  std::string file = safetensors_bytes(boost::json::serialize(header), 0);
  return file + data;
}

/// Every tensor that `config` asks for; element i of the n-th tensor is n + i / 1000.
inline ScratchTensors scratch_tensors(const Family& family, const ModelConfig& config) {
  ScratchTensors tensors;
  for (const TensorId& id : all_tensors(config)) {
    ScratchTensor tensor{.shape = tensor_shape(config, id), .values = {}};
    const size_t count =
        std::accumulate(tensor.shape.begin(), tensor.shape.end(), size_t{1}, std::multiplies<>());
    for (size_t i = 0; i < count; ++i) {
      tensor.values.push_back(float(tensors.size()) + float(i) / 1000.0f);
    }
    tensors[family.tensor_name(id)] = std::move(tensor);
  }
  return tensors;
}

}  // namespace pregate::model
