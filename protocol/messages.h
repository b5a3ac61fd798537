// What the processes of a cluster say to one another. The bytes are in protocol/WIRE.md.
//
// A message is a header of at most 1 KiB and a payload for what is bulky. Numbers and layouts are
// never reused: a change of a layout is a new kProtocolVersion, and peers of different versions
// refuse each other in the hello.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"

namespace pregate::protocol {

inline constexpr uint32_t kProtocolVersion = 5;

/// 3 and 4 were in version 1.
enum class MessageType : uint16_t {
  kAssignExperts = 2,
  kExpertRequest = 5,
  kExpertReply = 6,
  kHeartbeat = 7,
  kError = 8,
  kGoodbye = 9,
  kChallenge = 10,
  kJoin = 11,
  kWelcome = 12,
  kRefusal = 13,
  kHoldings = 14,
  kExpertPlan = 15,
};

inline constexpr size_t kMaxTextBytes = 512;
/// Of a worker's name, its host and its back end, so that a Join fits into a header.
inline constexpr size_t kMaxNameBytes = 128;
/// Experts in one assignment: far over any model's.
inline constexpr size_t kMaxAssignedExperts = size_t{1} << 20;
/// Experts in one plan; a longer one is cut, so that the farthest uses are left out.
inline constexpr size_t kMaxPlannedExperts = size_t{1} << 16;
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

/// 32 random bytes, drawn anew for each handshake.
using Nonce = std::array<std::byte, 32>;
/// HMAC-SHA256 (protocol/handshake.h).
using Proof = std::array<std::byte, 32>;

/// Coordinator to whoever connected: the first message. Prove that you know the cluster's secret.
struct Challenge {
  Nonce nonce{};
};

/// What a worker can do, as it measured it.
struct Capacity {
  double rows_per_second = 0;  ///< One expert applied to one row counts as one.
  uint64_t memory_bytes = 0;   ///< For experts, those it holds already included.
  uint64_t expert_bytes = 0;   ///< Of one packed expert in `weight_format`.
  uint32_t threads = 0;
  std::string backend;
  bool wants_plans = false;  ///< Experts may be on disk: it helps to know what will be needed.
};

/// Worker to coordinator: the answer to a challenge. Then come Holdings.
struct Join {
  Nonce nonce{};             ///< The coordinator proves itself with this one.
  Proof proof{};             ///< prove_worker()
  uint64_t incarnation = 0;  ///< That of the hello: one life of the process.
  uint64_t model_fingerprint = 0;
  uint8_t weight_format = 0;  ///< A compute::WeightFormat.
  uint32_t pid = 0;
  Capacity capacity;
  std::string name;  ///< Unique in the cluster, the same after a restart; see is_worker_name().
  std::string host;
};

/// Coordinator to worker: you are in.
struct Welcome {
  Proof proof{};  ///< prove_coordinator()
  WorkerId worker;
};

/// Coordinator to worker: you are not; the reason is for its log.
struct Refusal {
  bool retry = false;  ///< It may pass, for example a name that a dying worker still has.
  Error error;
};

/// Coordinator to worker: hold exactly these experts, loading in the order given and dropping the
/// rest. Answered by Holdings; sent again when no heartbeat says that it arrived.
struct AssignExperts {
  uint64_t assignment = 0;        ///< Grows; an older one that arrives later is ignored.
  uint64_t bytes_per_second = 0;  ///< Load no faster, so that serving is not held up; 0: no limit.
  std::vector<ExpertRange> ranges;
};

/// Worker to coordinator: all that it holds now. Sent when that changes (a few times a second while
/// it loads), and again when no heartbeat says that it arrived.
struct Holdings {
  uint64_t revision = 0;    ///< Grows; an older one that arrives later is ignored.
  uint64_t assignment = 0;  ///< The latest received.
  uint64_t bytes = 0;       ///< Of the packed experts.
  bool complete = false;    ///< The assignment is loaded, and all else dropped.
  std::vector<ExpertRange> ranges;
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

/// An expert that will or may be needed.
struct PlannedExpert {
  LayerIdx layer;
  ExpertId expert;
  uint32_t ahead = 0;    ///< When, in layers after `ExpertPlan::now`.
  float likelihood = 1;  ///< 0 to 1; 1 where it is certain.
  bool certain = false;  ///< Else it is a guess.
};

/// Coordinator to worker, where Capacity::wants_plans: of the experts that it holds, what will or
/// may be asked for. It only ever moves data and may be lost. No answer.
struct ExpertPlan {
  uint64_t now = 0;  ///< Layers computed since the engine began, dense ones too.
  std::vector<PlannedExpert> experts;
};

/// Both ways, also while the sender computes. The numbers let either end see that the other missed
/// something, and send it again.
struct Heartbeat {
  uint64_t sequence = 0;
  uint64_t heard = 0;        ///< The latest sequence received on this connection; 0: none.
  uint64_t assignment = 0;   ///< Worker: the latest received. Coordinator: the latest sent.
  uint64_t revision = 0;     ///< Worker: of its holdings. Coordinator: the latest received.
  uint32_t queue_depth = 0;  ///< Requests waiting at the sender.
  bool leaving = false;      ///< Worker: it wants to end, and asks to be drained.
};

/// Something went wrong outside a request: from a worker, that it cannot hold what it was assigned.
struct ErrorMessage {
  Error error;
};

/// "I leave": sent by the coordinator to end a worker, and as the worker's answer.
struct Goodbye {
  bool peers_lost = false;  ///< Some process of the launch is gone: do not wait for it.
};

}  // namespace pregate::protocol
