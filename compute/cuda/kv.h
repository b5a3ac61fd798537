// A KV cache in a device's memory, as kv_layout.h has it.
#pragma once

#include "compute/backend.h"
#include "compute/cuda/arena.h"
#include "compute/cuda/attention_args.h"
#include "compute/cuda/kv_layout.h"

namespace pregate::compute::cuda {

static_assert(kKvTokens == kKvBlockTokens);

class CudaKv final : public KvStorage {
 public:
  CudaKv(const KvShape& shape, size_t num_blocks, Arena::Block memory)
      : shape_(shape), num_blocks_(num_blocks), memory_(std::move(memory)) {}

  const KvShape& shape() const override { return shape_; }
  size_t num_blocks() const override { return num_blocks_; }

  /// Bytes of a block in one layer.
  static size_t block_bytes(const KvShape& shape) {
    return shape.num_kv_heads * kv_head_bytes(shape.dtype, shape.head_dim);
  }
  /// Of a head's key or value.
  size_t width() const { return kv_width(shape_.dtype, shape_.head_dim); }
  size_t row_numbers() const { return shape_.num_kv_heads * shape_.head_dim; }
  KvLayer layer(size_t layer) const {
    return {.data = memory_.data() + layer * num_blocks_ * block_bytes(shape_),
            .dtype = shape_.dtype,
            .num_heads = uint32_t(shape_.num_kv_heads),
            .head_dim = uint32_t(shape_.head_dim)};
  }

 private:
  const KvShape shape_;
  const size_t num_blocks_;
  const Arena::Block memory_;
};

}  // namespace pregate::compute::cuda
