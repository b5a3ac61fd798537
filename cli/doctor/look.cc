#include "cli/doctor/look.h"

#include <algorithm>

#include "base/cores.h"
#include "base/memory.h"
#include "base/thread_pool.h"
#include "cli/doctor/probes.h"
#include "cli/version.h"
#include "compute/backend.h"
#include "model/checkpoint/checkpoint.h"
#include "model/fingerprint.h"
#include "protocol/handshake.h"

namespace pregate::cli::doctor {
namespace {

uint64_t experts_of(const model::ModelSummary& summary, const Settings& settings, size_t shares) {
  const uint64_t budget = settings.memory.memory_bytes;
  const uint64_t bytes = shares * summary.expert_loaded_bytes;
  return budget > 0 ? std::min(bytes, budget) : bytes;
}

uint64_t cache_of(const model::ModelSummary& summary, const model::ModelConfig& config,
                  const BatchingOptions& batching) {
  const size_t longest = batching.max_model_len > 0 ? batching.max_model_len : config.max_position;
  const size_t token =
      summary.kv_bytes_per_token * (batching.kv_dtype == compute::DType::kF32 ? 2 : 1);
  return std::min<uint64_t>(batching.kv_cache_bytes, token * longest * batching.max_num_seqs);
}

/// Whether it stays in the host's memory although a device computes: what is no matrix, and
/// matrices in f32, which those of routers are always.
bool is_of_host(model::Part part, compute::WeightFormat format) {
  using enum model::Part;
  if (part == kEmbedding || part == kNorms || part == kRouter) return true;
  return format == compute::WeightFormat::kF32 && (part == kAttention || part == kLmHead);
}

Kernels look_at_kernels(const std::string& wanted, Report& report) {
  ThreadPool threads(1);
  const auto backend = compute::make_backend(wanted, threads);
  Kernels kernels{.wanted = wanted, .available = compute::available_backends(), .chosen = {}};
  if (backend) {
    kernels.chosen = (*backend)->name();
    if (const auto free_bytes = (*backend)->free_bytes()) {
      report.device = (*backend)->name();
      report.device_available = *free_bytes;
    }
  } else {
    kernels.chosen = fail(backend.error());
  }
  return kernels;
}

void look_at_memory(const model::ModelSummary& summary, Memory memory, const Settings& settings,
                    Report& report) {
  if (!report.device.empty()) {
    Memory there = on_device(memory, summary, settings.model.weights);
    there.device = report.device;
    there.available = report.device_available;
    // More than there is may not be asked for.
    there.may_stay_on_disk = memory.may_stay_on_disk && settings.memory.memory_bytes == 0;
    report.device_needed = there.needed();
    memory.backbone -= there.backbone;
    memory.kv_cache = 0;
    memory.experts = 0;
    report.checks.push_back(check_memory(there));
  }
  memory.available = report.memory_available;
  report.memory_needed = memory.needed();
  const bool is_all_there = !report.device.empty() && memory.needed() == 0;
  if (!is_all_there) report.checks.push_back(check_memory(memory));
}

/// Opens the checkpoint and adds what depends on it.
Status look_at_model(const Settings& settings, Report& report) {
  PREGATE_ASSIGN(const auto checkpoint, model::Checkpoint::open(settings.model.model));
  const auto format = compute::kept_format(settings.model.backend, settings.model.weights);
  PREGATE_ASSIGN(const auto summary, model::summarize(*checkpoint, format));
  PREGATE_ASSIGN(const uint64_t fingerprint, model::fingerprint(*checkpoint));
  report.fingerprint = fmt::format("{:016x}", fingerprint);
  report.checks.push_back({"model", Outcome::kOk,
                           fmt::format("{}, fingerprint {}", report.model, report.fingerprint),
                           ""});
  look_at_memory(summary, memory_needed(summary, checkpoint->config(), settings), settings, report);
  return {};
}

void look_at_ports(const Settings& settings, Checks& checks) {
  const auto look_at = [&](const char* flag, const std::string& address) {
    checks.push_back(check_port({flag, address, probe_address(address)}));
  };
  const std::string host = settings.http.host.find(':') == std::string::npos
                               ? settings.http.host
                               : "[" + settings.http.host + "]";
  if (settings.role != Role::kWorker) {
    look_at("--port", fmt::format("{}:{}", host, settings.http.port));
    if (!settings.listen.address.empty()) look_at("--listen", settings.listen.address);
  }
  const size_t first = settings.metrics.metrics_port;
  if (settings.role == Role::kCoordinator || first == 0) return;
  if (settings.role == Role::kWorker) {
    const size_t number = std::max<uint32_t>(settings.rank, 1);
    return look_at("--metrics-port", fmt::format("{}:{}", host, first + number - 1));
  }
  for (size_t i = 0; i < settings.num_workers; ++i) {
    look_at("--metrics-port", fmt::format("{}:{}", host, first + i));
  }
}

void look_at_secret(const std::filesystem::path& file, Checks& checks) {
  if (file.empty()) return;
  const auto secret = protocol::Secret::read(file);
  if (secret) {
    checks.push_back({"secret", Outcome::kOk, file.string() + ", private", ""});
  } else {
    checks.push_back({"secret", Outcome::kFailed, secret.error().message,
                      "deploy/make-secrets.sh makes one; the same file on every host"});
  }
}

void look_at_libraries(Report& report) {
  const transport::LibraryVersion mpi = transport::mpi_library(), ucx = transport::ucx_library();
  report.mpi = mpi.running;
  report.ucx = ucx.running;
  report.checks.push_back(check_library(mpi));
  report.checks.push_back(check_library(ucx));
}

void look_at_processor(const Settings& settings, Report& report) {
  const Kernels kernels = look_at_kernels(settings.model.backend, report);
  report.kernels = kernels.chosen.value_or("-");
  report.checks.push_back(check_kernels(kernels));
  const Cores cores{.of_machine = cores_of_machine(),
                    .allowed = cores_within(allowed_cores(), kNoQuota),
                    .quota = cpu_quota(),
                    .threads = settings.model.num_threads};
  report.cores = cores_within(cores.allowed, cores.quota);
  report.checks.push_back(check_cores(cores));
}

void look_at_network(const Settings& settings, Report& report) {
  const std::vector<Interface> interfaces = list_interfaces();
  for (const Interface& each : interfaces) {
    if (!each.is_loopback) report.addresses.push_back(each.address);
  }
  std::ranges::sort(report.addresses);
  report.checks.push_back(check_interfaces(interfaces, settings.interface));
  report.checks.push_back(check_own_name({report.host, addresses_of(report.host)}));
}

}  // namespace

const char* to_string(Role role) {
  switch (role) {
    case Role::kAll:
      return "all";
    case Role::kCoordinator:
      return "coordinator";
    case Role::kWorker:
      return "worker";
  }
  return "";
}

Memory memory_needed(const model::ModelSummary& summary, const model::ModelConfig& config,
                     const Settings& settings) {
  const size_t workers = settings.num_workers;
  const size_t copies = std::min(settings.balance.replicas, std::max<size_t>(workers, 1));
  const size_t all = summary.num_routed_experts * copies;
  const size_t share = workers == 0 ? all : (all + workers - 1) / workers;
  Memory memory;
  if (settings.role != Role::kWorker) {
    memory.backbone = summary.backbone_loaded_bytes;
    memory.kv_cache = cache_of(summary, config, settings.batching);
  }
  if (settings.role == Role::kWorker) {
    memory.experts = experts_of(summary, settings, share);
  } else if (settings.role == Role::kAll) {
    memory.experts = std::max<size_t>(workers, 1) * experts_of(summary, settings, share);
  }
  memory.may_stay_on_disk = settings.role == Role::kAll && workers == 0;
  return memory;
}

Memory on_device(const Memory& memory, const model::ModelSummary& summary,
                 compute::WeightFormat format) {
  uint64_t of_host = 0;
  for (const model::PartSize& part : summary.parts) {
    if (is_of_host(part.part, format)) of_host += part.loaded_bytes;
  }
  Memory there = memory;
  there.backbone -= std::min(there.backbone, of_host);
  return there;
}

Report look(const Settings& settings) {
  Report report;
  report.host = host_name();
  report.rank = settings.rank;
  report.role = to_string(settings.role);
  report.version = kVersion;
  report.protocol = protocol::kProtocolVersion;
  report.model = settings.model.model.string();
  report.memory_available = available_memory_bytes();
  report.checks.push_back({"program", Outcome::kOk,
                           fmt::format("pregate {}, protocol {}", kVersion, report.protocol), ""});
  look_at_libraries(report);
  look_at_processor(settings, report);
  if (const Status opened = look_at_model(settings, report); !opened) {
    report.checks.push_back({"model", Outcome::kFailed, opened.error().message,
                             "the same complete checkpoint at this path on every host"});
  }
  look_at_ports(settings, report.checks);
  report.checks.push_back(check_shared_memory(look_at_shared_memory(settings.in_mpi)));
  report.checks.push_back(check_open_files(open_files_limit()));
  look_at_secret(settings.listen.secret_file, report.checks);
  look_at_network(settings, report);
  report.checks.push_back(check_clock(clock_synchronised()));
  return report;
}

}  // namespace pregate::cli::doctor
