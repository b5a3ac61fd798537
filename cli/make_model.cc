#include "cli/make_model.h"

#include <filesystem>
#include <memory>

#include "cli/flags.h"
#include "cli/progress.h"
#include "model/synthetic/make_model.h"

namespace pregate::cli {
namespace {

using compute::DType;

constexpr const char* kMakeModelExamples =
    "Examples:\n"
    "  pregate make-model --out build/tiny\n"
    "  pregate make-model --out build/big --like olmoe-1b-7b      13 GiB, for benchmarks\n"
    "  pregate make-model --out build/qwen --family qwen3_moe --layers 4 --experts 16";

constexpr Range kSizes{.min = 1, .max = size_t{1} << 32};

struct MakeModelOptions {
  std::filesystem::path directory;
  bool tie_embeddings = false;
  model::SyntheticOptions model;
};

void add_shape_flags(Flags& flags, MakeModelOptions& options) {
  model::SyntheticOptions& shape = options.model;
  flags.group("Shape, where it differs from --like");
  flags.text("--family", shape.family, "A model_type: mixtral, olmoe, qwen2_moe or qwen3_moe");
  flags.count("--layers", shape.num_layers, kSizes, "Layers");
  flags.count("--hidden-size", shape.hidden_size, kSizes, "Width of a row");
  flags.count("--heads", shape.num_heads, kSizes, "Attention heads");
  flags.count("--kv-heads", shape.num_kv_heads, kSizes, "Heads for keys and values");
  flags.count("--head-dim", shape.head_dim, kSizes, "Width of a head");
  flags.count("--experts", shape.num_experts, kSizes, "Experts of a layer");
  flags.count("--top-k", shape.top_k, kSizes, "Experts of a token");
  flags.count("--expert-size", shape.expert_intermediate_size, kSizes, "Inner width of an expert");
  flags.count("--shared-size", shape.shared_intermediate_size, {},
              "Inner width of the shared expert, in families that have one");
  flags.count("--vocab", shape.vocab_size, kSizes, "Rows of the embedding");
  flags.count("--context", shape.max_position, kSizes, "Longest sequence, in tokens");
  flags.toggle("--tie-embeddings", options.tie_embeddings, "Use the embedding as output layer too");
}

Status make(const MakeModelOptions& options) {
  model::SyntheticOptions model = options.model;
  if (options.tie_embeddings) model.tie_embeddings = true;
  Progress progress(Progress::standard_error("writing"), system_clock());
  const auto report = [&](size_t done, size_t total) { progress.update("weights", done, total); };
  PREGATE_TRY(model::make_model(options.directory, model, report));
  fmt::print("{}: an untrained model, its weights are random (seed {})\n",
             options.directory.string(), model.seed);
  return {};
}

}  // namespace

Command add_make_model(CLI::App& app) {
  auto options = std::make_shared<MakeModelOptions>();
  Command command = make_command(
      app, "make-model", "Write an untrained checkpoint with random weights, to try things out",
      kMakeModelExamples);
  Flags flags(*command.app);
  command.needed.push_back(flags.path("--out", options->directory, "Folder to create"));
  std::vector<std::pair<std::string, std::string>> presets;
  for (const std::string& name : model::synthetic_presets()) presets.emplace_back(name, name);
  flags.choice("--like", options->model.like, presets, "Take the shape of this model");
  flags.choice<DType>(
      "--dtype", options->model.dtype,
      {{"bf16", DType::kBf16}, {"f16", DType::kF16}, {"f32", DType::kF32}, {"f8", DType::kF8}},
      "Number format of the weights; f8: E4M3 with a scale for each block of "
      "attention, experts and MLPs, and bf16 for the rest");
  flags.count("--seed", options->model.seed, {}, "The same seed gives the same bytes");
  flags.bytes("--shard-bytes", options->model.shard_bytes, "Split weight files at this size");
  add_shape_flags(flags, *options);
  command.run = [options] { return make(*options); };
  return command;
}

}  // namespace pregate::cli
