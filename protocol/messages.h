// What the processes of a cluster say to one another. The bytes are in protocol/WIRE.md.
//
// A message is a header of at most 1 KiB and a payload for what is bulky. Numbers and layouts are
// never reused: a change of a layout is a new kProtocolVersion, and peers of different versions
// refuse each other in the hello.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"

namespace pregate::protocol {

inline constexpr uint32_t kProtocolVersion = 1;

enum class MessageType : uint16_t {
  kAssignExperts = 2,
  kLoadProgress = 3,
  kReady = 4,
  kExpertRequest = 5,
  kExpertReply = 6,
  kHeartbeat = 7,
  kError = 8,
  kGoodbye = 9,
};

inline constexpr size_t kMaxTextBytes = 512;
/// Experts in one assignment: far over any model's.
inline constexpr size_t kMaxAssignedExperts = size_t{1} << 20;
/// Row data in a request begins at a multiple of this in the payload.
inline constexpr size_t kRowAlignment = 64;

enum class Role : uint8_t { kCoordinator = 0, kWorker = 1 };

/// Travels in the transport's hello.
struct HelloInfo {
  Role role = Role::kWorker;
  uint32_t pid = 0;
  std::string host;  ///< Cut to kMaxHostBytes.
};
inline constexpr size_t kMaxHostBytes = 36;

struct ExpertRange {
  LayerIdx layer;
  ExpertId first;
  uint32_t count = 0;
  auto operator<=>(const ExpertRange&) const = default;
};

/// Coordinator to worker: hold exactly these experts. Answered by LoadProgress, then Ready or
/// Error.
struct AssignExperts {
  uint64_t assignment = 0;         ///< Names it in the answers.
  uint64_t model_fingerprint = 0;  ///< Of the coordinator's checkpoint.
  uint8_t weight_format = 0;       ///< A compute::WeightFormat.
  std::string model;               ///< For messages.
  std::vector<ExpertRange> ranges;
};

struct LoadProgress {
  uint64_t assignment = 0;
  uint32_t loaded_experts = 0;
  uint32_t total_experts = 0;
  uint64_t loaded_bytes = 0;
};

struct Ready {
  uint64_t assignment = 0;
  uint64_t bytes = 0;          ///< Of the packed experts.
  double rows_per_second = 0;  ///< Measured: one expert applied to one row counts as one.
  double load_seconds = 0;
  uint32_t experts = 0;
  uint32_t threads = 0;
  std::string backend;
};

/// Which rows of a request go through which expert, and how much each counts. Experts ascend.
struct ExpertTable {
  std::vector<ExpertId> experts;
  std::vector<uint32_t> counts;  ///< Of each expert; their sum is rows.size().
  std::vector<uint32_t> rows;    ///< Indices into the request's rows, expert after expert.
  std::vector<float> gates;      ///< Beside `rows`.
};

/// Coordinator to worker: apply experts to a token batch. Idempotent.
struct ExpertRequest {
  RequestId request;
  uint64_t step = 0;
  uint64_t placement_version = 0;
  uint64_t budget_us = 0;  ///< Time the answer may take from arrival; later it is of no use.
  LayerIdx layer;
  uint32_t num_rows = 0;
  uint32_t cols = 0;
  uint32_t row_bytes = 0;  ///< Of one encoded row.
  uint8_t row_format = 0;  ///< A compute::WeightFormat.
  bool separate = false;   ///< One result per (row, expert), not one sum per row.
  ExpertTable table;
  std::span<const std::byte> row_data;  ///< In the payload, once decoded.

  /// Rows of the answer.
  size_t num_results() const { return separate ? table.rows.size() : num_rows; }
};

/// Worker to coordinator. Payload: rows x cols f32, in the order of the request's rows, or of its
/// table if results are separate; empty if `status` is an error.
struct ExpertReply {
  RequestId request;
  uint64_t compute_ns = 0;
  uint64_t queue_ns = 0;
  uint32_t num_rows = 0;
  uint32_t cols = 0;
  Status status;
};

struct Heartbeat {
  uint64_t sequence = 0;
  uint32_t queue_depth = 0;  ///< Requests waiting at the sender.
};

/// Something went wrong outside a request; at a worker it is fatal to its assignment.
struct ErrorMessage {
  Error error;
};

/// "I leave": sent by the coordinator to end a worker, and as the worker's answer.
struct Goodbye {
  bool peers_lost = false;  ///< Some process of the launch is gone: do not wait for it.
};

}  // namespace pregate::protocol
