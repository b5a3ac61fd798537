#include "tests/support/fake_device.h"

#include <cstring>
#include <functional>
#include <utility>
#include <vector>

#include "base/check.h"
#include "tests/support/fake_attention.h"
#include "tests/support/fake_products.h"
#include "tests/support/fake_route.h"
#include "tests/support/fake_rows.h"

namespace pregate::compute::cuda {
namespace {

using Work = std::vector<std::function<void()>>;

struct FakeRecording final : Recording {
  Work work;
};

class FakeStream final : public Stream {
 public:
  FakeStream(const FakeDevice& device, GuardedMemory& memory, FakeDevice::Counts& counts)
      : device_(device), memory_(memory), counts_(counts) {}
  ~FakeStream() override { run(); }

  void upload(void* to, const void* from, size_t bytes) override {
    then([=] {
      if (bytes > 0) std::memcpy(to, from, bytes);
    });
  }
  void upload_pinned(void* to, const void* from, size_t bytes) override {
    PREGATE_CHECK(bytes % 16 == 0 && reinterpret_cast<uintptr_t>(to) % 16 == 0);
    upload(to, from, bytes);
  }
  void download(void* to, const void* from, size_t bytes) override {
    counts_.downloaded_bytes += bytes;
    upload(to, from, bytes);
  }
  void gather(const GatherArgs& args) override {
    then([args] { fake_gather(args); });
  }
  void gemm(const GemmArgs& args) override {
    then([args] { fake_gemm(args); });
  }
  void encode(const EncodeArgs& args) override {
    then([args] { fake_encode(args); });
  }
  void combine(const CombineArgs& args) override {
    then([args] { fake_combine(args); });
  }
  void place_heads(const PlaceHeadsArgs& args) override {
    then([args] { fake_place_heads(args); });
  }
  void attention(const AttentionArgs& args) override {
    then([args] { fake_attention(args); });
  }
  void norm(const NormArgs& args) override {
    then([args] { fake_norm(args); });
  }
  void encode_rows(const EncodeRowsArgs& args) override {
    then([args] { fake_encode_rows(args); });
  }
  void add(const AddArgs& args) override {
    then([args] { fake_add(args); });
  }
  void take_rows(const TakeRowsArgs& args) override {
    then([args] { fake_take_rows(args); });
  }
  void sum_rows(const SumRowsArgs& args) override {
    then([this, args] {
      check_addends(args);
      fake_sum_rows(args);
    });
  }
  void take_encoded(const TakeEncodedArgs& args) override {
    then([args] { fake_take_encoded(args); });
  }
  void choose_top_k(const TopKArgs& args) override {
    then([args] { fake_choose_top_k(args); });
  }
  void route(const RouteArgs& args) override {
    then([args] { fake_route(args); });
  }
  void find_largest(const LargestArgs& args) override {
    then([args] { fake_find_largest(args); });
  }
  void draw(const DrawArgs& args) override {
    then([args] { fake_draw(args); });
  }
  void change_logits(const ChangeLogitsArgs& args) override {
    then([args] { fake_change_logits(args); });
  }

  Status synchronize() override {
    run();
    if (!device_.is_lost()) return {};
    return fail(ErrorCode::kUnavailable, "fake: device lost: it was told to fail");
  }

  Result<std::unique_ptr<Recording>> record(const std::function<void()>& work) override {
    auto recording = std::make_unique<FakeRecording>();
    std::swap(recording->work, pending_);
    work();
    std::swap(recording->work, pending_);
    return recording;
  }
  void replay(const Recording& recording) override {
    const Work& work = static_cast<const FakeRecording&>(recording).work;
    ++counts_.replays;
    pending_.insert(pending_.end(), work.begin(), work.end());
  }

 private:
  void then(std::function<void()> work) { pending_.push_back(std::move(work)); }

  /// Nothing stops the processor from reading the host's.
  void check_addends(const SumRowsArgs& args) const {
    const uint32_t count = args.num_rows == 0 ? 0 : args.ends[args.num_rows - 1];
    for (uint32_t i = 0; i < count; ++i) PREGATE_CHECK(memory_.holds(args.addends[i]));
  }

  void run() {
    const Work work = std::exchange(pending_, {});
    if (work.empty() || device_.is_lost()) return;
    const GuardedMemory::Access access(memory_);
    for (const auto& each : work) each();
  }

  const FakeDevice& device_;
  GuardedMemory& memory_;
  FakeDevice::Counts& counts_;
  Work pending_;
};

}  // namespace

DeviceInfo FakeDevice::info() const {
  return {.name = "fake",
          .major = 8,
          .minor = 0,
          .memory_bytes = memory_bytes_,
          .free_bytes = memory_bytes_ - used_bytes(),
          .num_multiprocessors = 1};
}

Result<std::byte*> FakeDevice::allocate(size_t bytes) {
  const std::lock_guard lock(allocating_);
  const size_t free = memory_bytes_ - used_bytes();
  if (bytes > free) {
    return fail(ErrorCode::kResourceExhausted, "fake: {} bytes: {} are free", bytes, free);
  }
  std::byte* const memory = memory_.allocate(bytes);
  PREGATE_CHECK(memory != nullptr);
  return memory;
}

void FakeDevice::free(std::byte* memory) { PREGATE_CHECK(memory_.free(memory)); }

Result<std::byte*> FakeDevice::allocate_pinned(size_t bytes) {
  return static_cast<std::byte*>(std::malloc(bytes));
}

Result<std::unique_ptr<Stream>> FakeDevice::make_stream() {
  return std::make_unique<FakeStream>(*this, memory_, counts_);
}

}  // namespace pregate::compute::cuda
