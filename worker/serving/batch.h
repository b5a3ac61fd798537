// Requests of one layer, computed in one call of the back end.
#pragma once

#include <functional>
#include <optional>

#include "worker/experts/store.h"
#include "worker/probe.h"
#include "worker/serving/leased_tasks.h"
#include "worker/serving/planned_cache.h"
#include "worker/serving/request_queue.h"

namespace pregate::worker {

struct Answer {
  uint64_t connection = 0;  ///< Of the request.
  protocol::ExpertReply reply;
  transport::Payload payload;
};

/// Where an answer of so many bytes is to be put, so that it goes from there to the coordinator's
/// device; null: into host memory.
using AnswerMemory = std::function<std::shared_ptr<DeviceMemory>(size_t bytes)>;

/// One answer per request, in their order. Requests that are too late, or that ask for what is not
/// held, are answered with an error and cost no time. Merging changes no bit of an answer: a row
/// does not depend on the others of a call, and its experts are added in ascending order.
class BatchServer {
 public:
  /// `cache`: where the experts are that `store` holds on disk (see ExpertOnDisk); null if it holds
  /// them in memory.
  BatchServer(const ExpertStore& store, compute::Backend& backend, const Clock& clock, Probe& probe,
              PlannedCache* cache = nullptr)
      : store_(store),
        backend_(backend),
        clock_(clock),
        probe_(probe),
        cache_(cache),
        sums_(backend) {
    if (cache != nullptr) leased_.emplace(backend);
  }

  /// Of the back end's shared memory, which the tails of requests are in as well. Before serve().
  void put_answers(AnswerMemory where) { answer_memory_ = std::move(where); }

  std::vector<Answer> serve(std::span<const PendingRequest> requests);

 private:
  /// What a batch uses; held until it is computed, though it may be dropped meanwhile.
  using Experts = std::map<ExpertKey, ExpertStore::Expert>;
  /// What one call of the back end does.
  struct Work {
    const PendingRequest& first;
    bool is_alone = true;  // there is no other request
    size_t num_rows = 0;
    size_t num_results = 0;
    std::vector<ExpertKey> experts;
    std::vector<compute::ExpertTask> tasks;  // of each
  };

  Status check(const PendingRequest& pending, Experts& experts) const;
  Status find_experts(const protocol::ExpertRequest& request, Experts& experts) const;
  void compute(std::span<const PendingRequest* const> live, const Experts& experts,
               std::span<Answer* const> answers);
  void deal_out(const transport::Payload& results, Duration spent,
                std::span<const PendingRequest* const> live, std::span<Answer* const> answers);
  Result<transport::Payload> run(Work& work, const compute::EncodedRows& rows);
  Status run_to_host(Work& work, const compute::EncodedRows& rows, compute::Matrix<float> out);
  Status apply(Work& work, const compute::EncodedRows& rows, compute::Matrix<float> out);

  const ExpertStore& store_;
  compute::Backend& backend_;
  const Clock& clock_;
  Probe& probe_;
  PlannedCache* const cache_;
  AnswerMemory answer_memory_ = [](size_t) { return nullptr; };
  std::optional<LeasedTasks> leased_;  // if there is a cache: it takes memory of a device
  compute::RowBuffer sums_;
};

}  // namespace pregate::worker
