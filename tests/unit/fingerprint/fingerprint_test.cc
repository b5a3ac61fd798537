#include "model/fingerprint.h"

#include <map>

#include <gtest/gtest.h>

#include "base/check.h"
#include "model/checkpoint/checkpoint.h"

namespace pregate::model {
namespace {

class FakeCheckpoint final : public Checkpoint {
 public:
  const std::filesystem::path& directory() const override { return directory_; }
  const ModelConfig& config() const override { return config_; }
  const Family& family() const override {
    PREGATE_CHECK(false);
    __builtin_unreachable();
  }
  bool has_tensor(const std::string& name) const override { return tensors.contains(name); }
  Result<TensorView> tensor(const std::string& name) const override {
    const auto& bytes = tensors.at(name);
    return TensorView{bytes.data(), dtype, {bytes.size() / 4, 2}, bytes.size(), "a file"};
  }
  void drop(const TensorView&) const override {}
  std::vector<std::string> tensor_names() const override {
    std::vector<std::string> names;
    for (const auto& [name, bytes] : tensors) names.push_back(name);
    if (reversed) names = {names.rbegin(), names.rend()};
    return names;
  }

  std::map<std::string, std::vector<std::byte>> tensors{
      {"a", std::vector<std::byte>(64, std::byte{1})},
      {"b", std::vector<std::byte>(128, std::byte{2})}};
  compute::DType dtype = compute::DType::kBf16;
  bool reversed = false;

 private:
  std::filesystem::path directory_;
  ModelConfig config_;
};

TEST(Fingerprint, IsEqualForCopiesInAnyOrder) {
  const FakeCheckpoint one;
  FakeCheckpoint other;
  other.reversed = true;
  EXPECT_EQ(fingerprint(one).value(), fingerprint(other).value());
}

TEST(Fingerprint, ChangesWithNamesTypesShapesAndValues) {
  const FakeCheckpoint original;
  const auto differs = [&](void (*change)(FakeCheckpoint&)) {
    FakeCheckpoint changed;
    change(changed);
    return fingerprint(changed).value() != fingerprint(original).value();
  };
  EXPECT_TRUE(differs([](FakeCheckpoint& c) { c.dtype = compute::DType::kF16; }));
  EXPECT_TRUE(differs([](FakeCheckpoint& c) { c.tensors["c"].resize(4); }));
  EXPECT_TRUE(differs([](FakeCheckpoint& c) { c.tensors["a"].resize(68, std::byte{1}); }));
  EXPECT_TRUE(differs([](FakeCheckpoint& c) { c.tensors["b"][17] = std::byte{9}; }));
}

}  // namespace
}  // namespace pregate::model
