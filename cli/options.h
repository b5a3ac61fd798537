// Settings that several commands share, each group with its flags.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>

#include "cli/command.h"
#include "cli/flags.h"
#include "compute/types.h"
#include "coordinator/scheduling/batch_policy.h"
#include "router/lookahead/sources.h"

namespace pregate::cli {

struct ModelOptions {
  std::filesystem::path model;
  compute::WeightFormat weights = compute::WeightFormat::kBf16;
  std::string backend = "cpu";
  size_t num_threads = 0;  ///< 0: see thread_count().
  std::chrono::milliseconds load_timeout{std::chrono::minutes(30)};
};

struct BatchingOptions {
  uint64_t kv_cache_bytes = uint64_t{1} << 30;
  compute::DType kv_dtype = compute::DType::kBf16;
  size_t max_model_len = 0;  ///< Tokens; 0: what the model was configured for.
  size_t max_num_seqs = 64;
  size_t max_num_batched_tokens = 512;
  size_t max_queue = 256;
  bool no_prefix_caching = false;
  coordinator::BatchPolicyName policy = coordinator::BatchPolicyName::kDecodeFirst;
  size_t max_passed_over = coordinator::BatchPolicyOptions{}.max_passed_over;
};

struct HttpOptions {
  std::string host = "127.0.0.1";
  size_t port = 8000;  ///< 0: any free one.
  std::string served_model_name;
  std::string api_key;
  std::filesystem::path api_key_file;
  std::chrono::milliseconds drain_timeout{std::chrono::seconds(30)};
};

/// Who may administer the cluster over HTTP.
struct AdminOptions {
  std::filesystem::path key_file;  ///< Empty: whoever has an API key.
};

/// Whether large payloads go by NCCL.
struct NcclFlags {
  std::string device;  ///< "cuda:0"; empty: they do not.
  uint64_t min_payload_bytes = uint64_t{256} << 10;
};

/// How the processes of a cluster watch one another, and what they speak through.
struct ClusterOptions {
  std::chrono::milliseconds heartbeat_interval{250};
  std::chrono::milliseconds suspect_after{1000};
  std::chrono::milliseconds dead_after{std::chrono::seconds(10)};
  bool per_expert_metrics = false;
  NcclFlags nccl;
};

/// How workers that are started on their own find the coordinator.
struct ListenOptions {
  std::string address;  ///< "HOST:PORT"; empty: the ranks of one mpirun are the workers.
  std::filesystem::path secret_file;
  size_t min_workers = 1;
};

/// What only the coordinator decides.
struct DispatchOptions {
  std::filesystem::path placement;  ///< Empty: planned.
  bool reproducible = false;
  std::chrono::milliseconds dispatch_timeout{std::chrono::seconds(2)};
  std::chrono::milliseconds expert_wait{std::chrono::seconds(60)};
};

/// How experts are spread over workers, and moved when the load changes.
struct BalanceOptions {
  size_t replicas = 1;
  double extra_replicas = 0;
  std::chrono::milliseconds interval{std::chrono::seconds(10)};
  uint64_t bytes_per_second = uint64_t{64} << 20;
  bool frozen = false;
};

enum class ExpertIo { kMapped, kDirect };

/// How much memory experts may take in the process that computes them, and how it is used.
struct ExpertMemoryOptions {
  uint64_t memory_bytes = 0;  ///< 0: all that there are, if they fit.
  std::string eviction = "belady";
  ExpertIo io = ExpertIo::kMapped;
  size_t num_loaders = 1;
};

struct WorkerMetricsOptions {
  size_t metrics_port = 0;  ///< Of the first worker; 0: any free one.
};

struct GeneralOptions {
  std::string log_level = "info";
  std::filesystem::path config;  ///< Read by apply_environment_and_config().
};

/// Each adds its flags to a command; the options must outlive it. The command needs --model.
void add_model_flags(Flags& flags, ModelOptions& options, Command& command);
void add_batching_flags(Flags& flags, BatchingOptions& options);
/// --batch-policy and --max-passed-over.
void add_batch_policy_flags(Flags& flags, BatchingOptions& options);
void add_http_flags(Flags& flags, HttpOptions& options);
void add_admin_flags(Flags& flags, AdminOptions& options);
void add_cluster_flags(Flags& flags, ClusterOptions& options);
void add_listen_flags(Flags& flags, ListenOptions& options);
void add_dispatch_flags(Flags& flags, DispatchOptions& options);
void add_balance_flags(Flags& flags, BalanceOptions& options);
/// --lookahead and --lookahead-depth.
void add_lookahead_flags(Flags& flags, router::LookaheadOptions& options);
void add_lookahead_depth_flag(Flags& flags, size_t& depth);
void add_expert_memory_flags(Flags& flags, ExpertMemoryOptions& options);
void add_worker_metrics_flags(Flags& flags, WorkerMetricsOptions& options);
/// --log-level and --config.
void add_general_flags(Flags& flags, GeneralOptions& options);

/// Says under a command's flags where else their values can come from.
extern const char* const kSourcesFooter;

/// `num_threads`, or for 0 usable_cores().
size_t thread_count(size_t num_threads);

/// Errors of settings that only make sense together.
Status check(const ClusterOptions& options);
Status check(const HttpOptions& options);
Status check(const router::LookaheadOptions& options);
Status check(const ListenOptions& options);

}  // namespace pregate::cli
