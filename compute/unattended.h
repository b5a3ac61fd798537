// Steps in which the host need not look at anything until the end: rows are routed where they lie.
// What a back end offers whose row memory is not the host's, where each look costs a wait.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "base/result.h"
#include "compute/top_k.h"
#include "compute/types.h"

namespace pregate::compute {

class KvStorage;
class PackedExpert;
struct SequenceRows;

/// Experts of a layer, by their numbers, ready for rows to be routed to them. Immutable.
class ExpertGroup {
 public:
  virtual ~ExpertGroup() = default;
};

/// Part of a back end and used as it is. All rows lie in row memory, as does what
/// Backend::choose_top_k() chose for them. Nothing waits.
class Unattended {
 public:
  virtual ~Unattended() = default;

  /// Of a group.
  virtual size_t max_experts() const = 0;
  /// `experts`: the back end's, all of one format and shape; they must outlive the group. Error:
  /// kResourceExhausted.
  virtual Result<std::unique_ptr<ExpertGroup>> group(
      std::span<const PackedExpert* const> experts) = 0;
  /// Of a call that sends each row to k experts; for more a look of the host's is worth waiting
  /// for.
  virtual size_t max_rows(const ExpertGroup& group, size_t k) const = 0;
  /// As Backend::experts() with a task for each expert that a row goes to, in order of their
  /// numbers: out [n, h] = sum of gate * expert(x) over each row's k. x [n, h], chosen [n * k].
  virtual void routed_experts(const EncodedRows& x, const ExpertGroup& group, const TopK& chosen,
                              Matrix<float> out) = 0;

  /// As Backend::read(), but that `to`, which is of Backend::allocate_host_rows(), has it only once
  /// something has waited: Backend::wait(), or an operation that leaves its results in host memory.
  virtual void begin_read(void* to, const void* rows, size_t bytes) = 0;

  /// Does `work`, which consists of operations of this back end that follow from `key`; those with
  /// `kv` are done for `sequences`. Where the same was done before it may be done again at once,
  /// without calling `work`. What another caller does has another key.
  virtual void repeat(std::span<const uint64_t> key, const KvStorage& kv,
                      std::span<const SequenceRows> sequences,
                      const std::function<void()>& work) = 0;
};

}  // namespace pregate::compute
