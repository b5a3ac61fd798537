#include "cli/options.h"

#include "base/cores.h"
#include "cli/weight_name.h"
#include "worker/experts/cache/eviction.h"

namespace pregate::cli {
namespace {

using compute::DType;
using compute::WeightFormat;

constexpr Range kAtLeastOne{.min = 1};
constexpr Range kPorts{.min = 0, .max = 65535};
constexpr Range kThreads{.min = 0, .max = 1024};

}  // namespace

const char* const kSourcesFooter =
    "Every flag can also be set by an environment variable (--max-model-len as\n"
    "PREGATE_MAX_MODEL_LEN) or in the TOML file of --config (max-model-len = 4096, at the top for\n"
    "all commands or under [COMMAND] for one). The command line comes first, then the "
    "environment,\n"
    "then the file. Sizes: 4096, 512M, 1.5G. Times: 250ms, 1.5s, 2m, 1h.";

void add_model_flags(Flags& flags, ModelOptions& options, Command& command) {
  flags.group("Model");
  command.needed.push_back(flags.path("--model", options.model,
                                      "Checkpoint: a folder with config.json and *.safetensors "
                                      "or pytorch_model*.bin"));
  flags.choice<WeightFormat>("--weights", options.weights, kWeightNames,
                             "How weights are kept in memory; q8 and q4 quantise to 8 and to 4 "
                             "bits while loading, f8 to E4M3, in which fp8 checkpoints stay as "
                             "they are");
  flags.text("--backend,--device", options.backend,
             "What computes: cpu (the fastest kernels this processor runs), cuda:N (a CUDA device "
             "by its number), or another name of `pregate version`");
  flags.count("--threads", options.num_threads, kThreads,
              "Threads that compute; 0: the cores this process may use, within its CPU quota");
  flags.duration("--load-timeout", options.load_timeout, "Give up when loading takes longer");
}

void add_batching_flags(Flags& flags, BatchingOptions& options) {
  flags.group("Batching and KV cache");
  flags.bytes("--kv-cache-bytes", options.kv_cache_bytes, "Memory for the KV cache");
  flags.choice<DType>("--kv-type", options.kv_dtype, {{"bf16", DType::kBf16}, {"f32", DType::kF32}},
                      "Number format of the KV cache");
  flags.count("--max-model-len", options.max_model_len, {},
              "Longest prompt and answer together, in tokens; 0: as the model says");
  flags.count("--max-num-seqs", options.max_num_seqs, kAtLeastOne,
              "Sequences computed at the same time");
  flags.count("--max-num-batched-tokens", options.max_num_batched_tokens, kAtLeastOne,
              "Tokens of one step; longer prompts are computed in pieces");
  flags.count("--max-queue", options.max_queue, {},
              "Requests that may wait; further ones are answered with status 429");
  flags.toggle("--no-prefix-caching", options.no_prefix_caching,
               "Compute prompts anew even where their beginning is still in the KV cache");
}

void add_batch_policy_flags(Flags& flags, BatchingOptions& options) {
  using coordinator::BatchPolicyName;
  std::vector<std::pair<std::string, BatchPolicyName>> names;
  for (const auto name : {BatchPolicyName::kDecodeFirst, BatchPolicyName::kPrefillFirst,
                          BatchPolicyName::kExpertAware}) {
    names.emplace_back(to_string(name), name);
  }
  flags.group("Batching and KV cache");
  flags.choice<BatchPolicyName>(
      "--batch-policy", options.policy, names,
      "Who comes first when a step has not room for all: sequences that decode, prompts, or those "
      "whose experts keep the number of experts in a step low (for models with a pre-gating "
      "router). Answers stay the same");
  flags.count("--max-passed-over", options.max_passed_over, kAtLeastOne,
              "With prefill-first and expert-aware: a sequence that so many steps in a row had no "
              "room for comes first");
}

void add_http_flags(Flags& flags, HttpOptions& options) {
  flags.group("HTTP");
  flags.text("--host", options.host, "Address to listen on; 0.0.0.0 for all networks");
  flags.count("--port", options.port, kPorts, "Port to listen on; 0: any free one (see the log)");
  flags.text("--served-model-name", options.served_model_name,
             "Name of the model in the API; default: the folder's name");
  flags.text("--api-key", options.api_key,
             "Key that clients must send. Visible in process lists: prefer --api-key-file");
  flags.path("--api-key-file", options.api_key_file, "Keys that clients may send, one a line");
  flags.duration("--drain-timeout", options.drain_timeout,
                 "On SIGTERM: how long running requests may go on");
}

void add_admin_flags(Flags& flags, AdminOptions& options) {
  flags.group("HTTP");
  flags.path("--admin-key-file", options.key_file,
             "Keys for /admin/v1/ (`pregate admin`), one a line; default: the API keys");
}

void add_cluster_flags(Flags& flags, ClusterOptions& options) {
  flags.group("Cluster");
  flags.duration("--heartbeat-interval", options.heartbeat_interval,
                 "How often processes tell one another that they live");
  flags.duration("--suspect-after", options.suspect_after,
                 "Silence after which a worker is not asked if another can answer");
  flags.duration("--dead-after", options.dead_after, "Silence after which a worker is given up");
  flags.toggle("--per-expert-metrics", options.per_expert_metrics,
               "Metrics for each expert of each layer, not only for each worker");
  flags.text(
      "--nccl", options.nccl.device,
      "A CUDA device of this process's own, such as cuda:0: large payloads go by NCCL to and "
      "from processes that have one too; all else, and what NCCL does not bring, as without");
  flags.bytes("--nccl-min-payload", options.nccl.min_payload_bytes,
              "With --nccl: smaller payloads do not go by it");
}

void add_listen_flags(Flags& flags, ListenOptions& options) {
  flags.group("Cluster");
  flags.text("--listen", options.address,
             "HOST:PORT where workers join (`pregate worker --join`); without it they are the "
             "ranks of the same mpirun");
  flags.path("--secret-file", options.secret_file,
             "What coordinator and workers know and nobody else does: 16 bytes or more, not "
             "readable by everyone");
  flags.count("--min-workers", options.min_workers, kAtLeastOne,
              "With --listen: experts are spread once so many workers have joined");
}

void add_dispatch_flags(Flags& flags, DispatchOptions& options) {
  flags.group("Experts");
  flags.path("--placement", options.placement,
             "File that says which worker holds which experts; default: spread evenly");
  flags.toggle("--reproducible", options.reproducible,
               "The same bits for any number of workers (slower)");
  flags.duration(
      "--dispatch-timeout", options.dispatch_timeout,
      "How long a worker may take at most for one token batch before a replica is asked instead");
  flags.duration("--expert-wait", options.expert_wait,
                 "How long a request may wait for an expert that no worker holds");
}

void add_balance_flags(Flags& flags, BalanceOptions& options) {
  flags.group("Experts");
  flags.count("--replicas", options.replicas, {.min = 1, .max = 1024},
              "Workers that hold each expert, as far as there are so many and their memory lasts");
  flags.share("--extra-replicas", options.extra_replicas,
              "More replicas for the busiest experts, as a share of all: 0.1 is a tenth");
  flags.duration("--rebalance-interval", options.interval,
                 "How often the load is looked at to see whether experts should move");
  flags.bytes("--rebalance-rate", options.bytes_per_second,
              "How much a worker loads per second of what no request waits for; 0: no limit");
  flags.toggle("--freeze-balancer", options.frozen,
               "Move no experts for the sake of the load (`pregate admin balancer unfreeze`)");
}

void add_lookahead_flags(Flags& flags, router::LookaheadOptions& options) {
  flags.group("Experts");
  flags.text(
      "--lookahead", options.source,
      "What says ahead which experts will be needed, so that they are at hand: none; pregate "
      "(the model's router, exact); next_gate (a guess by the next layer's gate); transitions "
      "(a guess by what followed before, learned meanwhile); auto (pregate where the model "
      "has it, else next_gate); replay:FILE (of `pregate trace`). Answers stay the same");
  add_lookahead_depth_flag(flags, options.depth);
}

void add_lookahead_depth_flag(Flags& flags, size_t& depth) {
  flags.count("--lookahead-depth", depth, {.min = 1, .max = 2},
              "How many layers next_gate looks ahead");
}

void add_expert_memory_flags(Flags& flags, ExpertMemoryOptions& options) {
  flags.group("Experts");
  flags.bytes("--expert-memory", options.memory_bytes,
              "Memory for experts in each process that computes them; the others are loaded from "
              "disk when they are needed, or just before. 0: all are in memory if they fit");
  std::vector<std::pair<std::string, std::string>> policies;
  for (const std::string& name : worker::eviction_policy_names()) policies.emplace_back(name, name);
  flags.choice<std::string>(
      "--expert-eviction", options.eviction, policies,
      "With --expert-memory: which expert makes room for another; belady: the one needed again "
      "last, as far as that is known, else the least recently used");
  flags.choice<ExpertIo>(
      "--expert-io", options.io, {{"mapped", ExpertIo::kMapped}, {"direct", ExpertIo::kDirect}},
      "With --expert-memory: how they are read; direct leaves the page cache out, so that no "
      "memory beyond --expert-memory helps");
  flags.count("--expert-loaders", options.num_loaders, {.min = 1, .max = 64},
              "With --expert-memory: threads that load experts");
}

void add_worker_metrics_flags(Flags& flags, WorkerMetricsOptions& options) {
  flags.group("Cluster");
  flags.count("--metrics-port", options.metrics_port, kPorts,
              "Port of the first worker's /metrics, one more for each further worker; 0: any free "
              "one (see the log)");
}

void add_general_flags(Flags& flags, GeneralOptions& options) {
  flags.group("General");
  flags.choice<std::string>("--log-level", options.log_level,
                            {{"trace", "trace"},
                             {"debug", "debug"},
                             {"info", "info"},
                             {"warning", "warning"},
                             {"error", "error"},
                             {"off", "off"}},
                            "Least severe lines of the log on standard error");
  flags.path("--config", options.config, "TOML file with values for any of these flags");
}

size_t thread_count(size_t num_threads) { return num_threads > 0 ? num_threads : usable_cores(); }

Status check(const ClusterOptions& options) {
  if (options.heartbeat_interval.count() <= 0 ||
      options.suspect_after < 2 * options.heartbeat_interval) {
    return fail(ErrorCode::kInvalidArgument,
                "--suspect-after {} ms: expected at least twice --heartbeat-interval ({} ms), so "
                "that one lost message raises no suspicion",
                options.suspect_after.count(), options.heartbeat_interval.count());
  }
  if (options.dead_after < options.suspect_after) {
    return fail(ErrorCode::kInvalidArgument,
                "--dead-after {} ms: expected at least --suspect-after ({} ms)",
                options.dead_after.count(), options.suspect_after.count());
  }
  return {};
}

Status check(const ListenOptions& options) {
  if (options.address.empty()) {
    if (options.secret_file.empty()) return {};
    return fail(ErrorCode::kInvalidArgument,
                "--secret-file is for workers that join over the network: give --listen HOST:PORT "
                "too, or leave it out");
  }
  if (!options.secret_file.empty()) return {};
  return fail(ErrorCode::kInvalidArgument,
              "--listen {}: --secret-file is needed, so that not everyone who reaches the port can "
              "join. Make one with `(umask 077; openssl rand -hex 32 > cluster.secret)` and give "
              "it to the workers too",
              options.address);
}

Status check(const router::LookaheadOptions& options) {
  const Status status = router::check_source(options.source);
  return status ? status : fail(in_context(status.error(), "--lookahead"));
}

Status check(const HttpOptions& options) {
  if (options.api_key.empty() || options.api_key_file.empty()) return {};
  return fail(ErrorCode::kInvalidArgument, "--api-key and --api-key-file: expected only one");
}

}  // namespace pregate::cli
