// Rotary tables against transformers' ROPE_INIT_FUNCTIONS, with the settings of real models.
#include "model/rotary.h"

#include <gtest/gtest.h>

#include "model/families/family.h"
#include "tests/golden/golden_data.h"

namespace pregate::golden {
namespace {

class RotaryGolden : public ::testing::TestWithParam<std::string> {};

model::ModelConfig read_config(const std::filesystem::path& path) {
  model::FieldReader fields(model::read_json_object(path).value(), path.string());
  for (const model::Family* family : model::families()) {
    if (family->model_type() == fields.text("model_type", "")) {
      return family->parse_config(fields).value();
    }
  }
  return {};
}

TEST_P(RotaryGolden, EqualsTransformers) {
  const auto directory = golden_directory() / "rotary" / GetParam();
  const auto file = model::open_safetensors(directory / "rotary.safetensors").value();
  const auto positions = golden_tensor<uint32_t>(file, "positions");
  const auto lengths = golden_tensor<uint32_t>(file, "lengths");
  const auto expected_cos = golden_tensor<float>(file, "cos");
  const auto expected_sin = golden_tensor<float>(file, "sin");

  const model::Rotary rotary(read_config(directory / "config.json"));
  std::vector<float> cos, sin;
  rotary.rows(positions, lengths, cos, sin);
  ASSERT_EQ(cos.size(), expected_cos.size());
  for (size_t i = 0; i < cos.size(); ++i) {
    // An angle is position times frequency: a few units in the last place of the frequency (2^-24
    // relative) grow with the position.
    const size_t position = positions[i / rotary.num_frequencies()];
    const double tolerance = 1e-6 + 3e-7 * double(position);
    ASSERT_NEAR(cos[i], expected_cos[i], tolerance) << position << ", " << i;
    ASSERT_NEAR(sin[i], expected_sin[i], tolerance) << position << ", " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, RotaryGolden,
                         ::testing::Values("default", "linear", "dynamic", "yarn",
                                           "yarn_attention_factor", "yarn_mscale", "llama3"),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace pregate::golden
