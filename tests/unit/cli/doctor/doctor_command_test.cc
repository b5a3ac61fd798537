#include <fstream>

#include "cli/doctor/look.h"
#include "cli/doctor/probes.h"
#include "tests/support/scratch_directory.h"
#include "tests/unit/cli/command_line.h"

namespace pregate::cli {
namespace {

using doctor::memory_needed;
using doctor::Role;
using doctor::Settings;

class Doctor : public CommandLineTest {
 protected:
  Doctor() {
    model_ = (scratch_.path() / "model").string();
    EXPECT_EQ(run({"make-model", "--out", model_, "--like", "tiny"}), 0) << errors_;
  }

  int examine(std::vector<std::string> more = {}) {
    std::vector<std::string> all = {"doctor", "--model", model_, "--port", "0"};
    all.insert(all.end(), more.begin(), more.end());
    return run(all);
  }
  bool says(const std::string& text) const { return output_.find(text) != std::string::npos; }

  ScratchDirectory scratch_;
  std::string model_;
};

TEST_F(Doctor, FindsThisHostFit) {
  EXPECT_EQ(examine(), 0) << output_ << errors_;
  for (const char* part : {"pregate 0", "kernels", "cores", "memory", "fingerprint", "--port",
                           "/dev/shm", "open files", "network", "own name", "clock"}) {
    EXPECT_TRUE(says(part)) << part << " is not in:\n" << output_;
  }
}

TEST_F(Doctor, SpeaksJson) {
  EXPECT_EQ(examine({"--json"}), 0) << output_ << errors_;
  EXPECT_TRUE(output_.starts_with("{\"ok\":true,\"hosts\":[{\"host\":")) << output_;
}

TEST_F(Doctor, NamesTheModelThatIsMissing) {
  EXPECT_EQ(run({"doctor", "--model", "no/such/model", "--port", "0"}), 1);
  EXPECT_TRUE(says("FAILED   model")) << output_;
  EXPECT_TRUE(says("no/such/model")) << output_;
}

TEST_F(Doctor, NamesTheModelThatIsCutShort) {
  for (const auto& entry : std::filesystem::directory_iterator(model_)) {
    if (entry.path().extension() != ".safetensors") continue;
    std::filesystem::resize_file(entry.path(), entry.file_size() / 2);
  }
  EXPECT_EQ(examine(), 1);
  EXPECT_TRUE(says("FAILED   model")) << output_;
}

TEST_F(Doctor, NamesTheSecretThatEveryoneReads) {
  const auto file = scratch_.path() / "cluster.secret";
  std::ofstream(file) << "0123456789abcdef0123456789abcdef";
  const std::vector<std::string> flags = {"--listen", "127.0.0.1:0", "--secret-file",
                                          file.string()};
  std::filesystem::permissions(file, std::filesystem::perms(0644));
  EXPECT_EQ(examine(flags), 1);
  EXPECT_TRUE(says("FAILED   secret")) << output_;
  EXPECT_TRUE(says("chmod 600")) << output_;
  std::filesystem::permissions(file, std::filesystem::perms(0600));
  EXPECT_EQ(examine(flags), 0) << output_;
}

TEST_F(Doctor, NamesWhatCannotBe) {
  EXPECT_EQ(examine({"--backend", "gpu"}), 1);
  EXPECT_TRUE(says("FAILED   kernels")) << output_;
  EXPECT_EQ(examine({"--iface", "nosuch0"}), 1);
  EXPECT_TRUE(says("no nosuch0")) << output_;
  EXPECT_EQ(examine({"--host", "192.0.2.1"}), 1);
  EXPECT_TRUE(says("FAILED   --port")) << output_;
  EXPECT_EQ(examine({"--kv-cache-bytes", "900T", "--max-num-seqs", "1000000000"}), 1);
  EXPECT_TRUE(says("FAILED   memory")) << output_;
}

TEST_F(Doctor, RefusesFlagsThatMakeNoSense) {
  EXPECT_EQ(run({"doctor"}), 2);
  EXPECT_EQ(examine({"--role", "king"}), 2);
  EXPECT_EQ(examine({"--secret-file", "x"}), 1);
  EXPECT_NE(errors_.find("--listen"), std::string::npos) << errors_;
}

TEST(DoctorProbes, APortIsTakenWhileSomebodyListens) {
  for (const char* address : {"nothing", ":1", "127.0.0.1:http-no", "no-such-host.invalid:1"}) {
    const Status status = doctor::probe_address(address);
    ASSERT_FALSE(status) << address;
    EXPECT_NE(status.error().message.find(address), std::string::npos) << status.error().message;
  }
  EXPECT_TRUE(doctor::probe_address("127.0.0.1:0"));
}

/// 40 experts of 10 bytes, a backbone of 100, 2 bytes of cache per token.
model::ModelSummary small_summary() {
  model::ModelSummary summary;
  summary.backbone_loaded_bytes = 100;
  summary.expert_loaded_bytes = 10;
  summary.num_routed_experts = 40;
  summary.kv_bytes_per_token = 2;
  return summary;
}

TEST(DoctorMemory, DependsOnTheRole) {
  model::ModelConfig config;
  config.max_position = 50;
  struct Case {
    Role role;
    size_t workers, replicas;
    uint64_t expert_memory, backbone, experts;
  };
  const Case cases[] = {
      {Role::kAll, 0, 1, 0, 100, 400},  {Role::kAll, 0, 3, 0, 100, 400},
      {Role::kAll, 0, 1, 50, 100, 50},  {Role::kAll, 4, 1, 0, 100, 400},
      {Role::kAll, 4, 2, 0, 100, 800},  {Role::kCoordinator, 4, 1, 0, 100, 0},
      {Role::kWorker, 4, 1, 0, 0, 100}, {Role::kWorker, 4, 2, 0, 0, 200},
      {Role::kWorker, 3, 1, 0, 0, 140}, {Role::kWorker, 4, 9, 0, 0, 400},
      {Role::kWorker, 4, 1, 30, 0, 30},
  };
  for (const Case& each : cases) {
    Settings settings;
    settings.role = each.role;
    settings.num_workers = each.workers;
    settings.balance.replicas = each.replicas;
    settings.memory.memory_bytes = each.expert_memory;
    settings.batching.max_num_seqs = 3;
    const doctor::Memory memory = memory_needed(small_summary(), config, settings);
    EXPECT_EQ(memory.backbone, each.backbone);
    EXPECT_EQ(memory.experts, each.experts) << to_string(each.role) << " " << each.workers;
    EXPECT_EQ(memory.kv_cache, each.role == Role::kWorker ? 0u : 300u);
    EXPECT_EQ(memory.may_stay_on_disk, each.workers == 0);
  }
}

TEST(DoctorMemory, OfADeviceIsWhatTheBackEndPacksAndTheCache) {
  model::ModelSummary summary = small_summary();
  summary.parts = {{.part = model::Part::kEmbedding, .loaded_bytes = 30},
                   {.part = model::Part::kAttention, .loaded_bytes = 65},
                   {.part = model::Part::kNorms, .loaded_bytes = 3},
                   {.part = model::Part::kRouter, .loaded_bytes = 2},
                   {.part = model::Part::kExperts, .loaded_bytes = 400}};
  const doctor::Memory all{.available = 0, .backbone = 100, .kv_cache = 7, .experts = 400};
  const doctor::Memory there = doctor::on_device(all, summary, compute::WeightFormat::kBf16);
  EXPECT_EQ(there.backbone, 65u);
  EXPECT_EQ(there.kv_cache, 7u);
  EXPECT_EQ(there.experts, 400u);
  EXPECT_EQ(doctor::on_device(all, summary, compute::WeightFormat::kF32).backbone, 0u);
  const doctor::Memory of_worker{.available = 0, .experts = 9};
  EXPECT_EQ(doctor::on_device(of_worker, summary, compute::WeightFormat::kBf16).needed(), 9u);
}

}  // namespace
}  // namespace pregate::cli
