// Requests of one layer, computed in one call of the back end.
#pragma once

#include "worker/experts/store.h"
#include "worker/probe.h"
#include "worker/serving/planned_cache.h"
#include "worker/serving/request_queue.h"

namespace pregate::worker {

struct Answer {
  uint64_t connection = 0;  ///< Of the request.
  protocol::ExpertReply reply;
  transport::Payload payload;
};

/// One answer per request, in their order. Requests that are too late, or that ask for what is not
/// held, are answered with an error and cost no time. Merging changes no bit of an answer: a row
/// does not depend on the others of a call, and its experts are added in ascending order.
class BatchServer {
 public:
  /// `cache`: where the experts are that `store` holds on disk (see ExpertOnDisk); null if it holds
  /// them in memory.
  BatchServer(const ExpertStore& store, compute::Backend& backend, const Clock& clock, Probe& probe,
              PlannedCache* cache = nullptr)
      : store_(store), backend_(backend), clock_(clock), probe_(probe), cache_(cache) {}

  std::vector<Answer> serve(std::span<const PendingRequest> requests);

 private:
  /// What a batch uses; held until it is computed, though it may be dropped meanwhile.
  using Experts = std::map<ExpertKey, ExpertStore::Expert>;

  Status check(const PendingRequest& pending, Experts& experts) const;
  Status find_experts(const protocol::ExpertRequest& request, Experts& experts) const;
  void compute(std::span<const PendingRequest* const> live, const Experts& experts,
               std::span<Answer* const> answers);
  Status run(const PendingRequest& first, const compute::EncodedRows& rows,
             std::span<const ExpertKey> experts, std::span<compute::ExpertTask> tasks,
             compute::Matrix<float> out);

  const ExpertStore& store_;
  compute::Backend& backend_;
  const Clock& clock_;
  Probe& probe_;
  PlannedCache* const cache_;
};

}  // namespace pregate::worker
