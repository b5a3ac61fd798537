// Settings that several commands share, each group with its flags.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>

#include "cli/command.h"
#include "cli/flags.h"
#include "compute/types.h"

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
};

struct HttpOptions {
  std::string host = "127.0.0.1";
  size_t port = 8000;  ///< 0: any free one.
  std::string served_model_name;
  std::string api_key;
  std::filesystem::path api_key_file;
  std::chrono::milliseconds drain_timeout{std::chrono::seconds(30)};
};

/// How the processes of a cluster find and watch one another; the same for all of them.
struct ClusterOptions {
  std::string transport = "mpi";
  std::chrono::milliseconds heartbeat_interval{250};
  std::chrono::milliseconds heartbeat_deadline{1000};
  bool per_expert_metrics = false;
};

/// What only the coordinator decides.
struct DispatchOptions {
  std::filesystem::path placement;  ///< Empty: experts are spread evenly.
  bool reproducible = false;
  std::chrono::milliseconds dispatch_timeout{std::chrono::seconds(30)};
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
void add_http_flags(Flags& flags, HttpOptions& options);
void add_cluster_flags(Flags& flags, ClusterOptions& options);
void add_dispatch_flags(Flags& flags, DispatchOptions& options);
void add_worker_metrics_flags(Flags& flags, WorkerMetricsOptions& options);
/// --log-level and --config.
void add_general_flags(Flags& flags, GeneralOptions& options);

/// Says under a command's flags where else their values can come from.
extern const char* const kSourcesFooter;

/// `num_threads`, or for 0 one for each core this process may run on.
size_t thread_count(size_t num_threads);

/// Errors of settings that only make sense together.
Status check(const ClusterOptions& options);
Status check(const HttpOptions& options);

}  // namespace pregate::cli
