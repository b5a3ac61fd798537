#include <cmath>

#include "base/check.h"
#include "compute/reference/backend.h"

namespace pregate::compute::reference {

void ReferenceBackend::rms_norm(Matrix<const float> x, std::span<const float> weight, float epsilon,
                                Matrix<float> y) {
  const size_t width = weight.size();
  PREGATE_CHECK(width > 0 && x.cols % width == 0 && y.rows == x.rows && y.cols == x.cols);
  for (size_t r = 0; r < x.rows; ++r) {
    for (size_t first = 0; first < x.cols; first += width) {
      const std::span<const float> from = x.row(r).subspan(first, width);
      const std::span<float> to = y.row(r).subspan(first, width);
      float sum_squares = 0.0f;
      for (const float value : from) sum_squares += value * value;
      const float scale = 1.0f / std::sqrt(sum_squares / static_cast<float>(width) + epsilon);
      for (size_t i = 0; i < width; ++i) to[i] = from[i] * scale * weight[i];
    }
  }
}

void ReferenceBackend::rotate(Matrix<float> x, size_t head_dim, Matrix<const float> cos,
                              Matrix<const float> sin) {
  const size_t half = cos.cols;
  for (size_t r = 0; r < x.rows; ++r) {
    for (size_t first = 0; first < x.cols; first += head_dim) {
      const std::span<float> head = x.row(r).subspan(first, head_dim);
      for (size_t j = 0; j < half; ++j) {
        const float a = head[j];
        const float b = head[j + half];
        head[j] = a * cos.row(r)[j] - b * sin.row(r)[j];
        head[j + half] = b * cos.row(r)[j] + a * sin.row(r)[j];
      }
    }
  }
}

}  // namespace pregate::compute::reference
