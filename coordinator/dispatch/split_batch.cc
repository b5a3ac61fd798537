#include <algorithm>
#include <optional>

#include "coordinator/dispatch/remote_experts.h"

namespace pregate::coordinator {
namespace {

struct Entry {
  ExpertId expert;
  uint32_t row;  // within the share
  float gate;
};

/// Entries come row by row; a table lists them expert by expert.
protocol::ExpertTable make_table(std::vector<Entry>& entries) {
  std::stable_sort(entries.begin(), entries.end(),
                   [](const Entry& a, const Entry& b) { return a.expert < b.expert; });
  protocol::ExpertTable table;
  for (const Entry& entry : entries) {
    if (table.experts.empty() || table.experts.back() != entry.expert) {
      table.experts.push_back(entry.expert);
      table.counts.push_back(0);
    }
    ++table.counts.back();
    table.rows.push_back(entry.row);
    table.gates.push_back(entry.gate);
  }
  return table;
}

}  // namespace

Result<std::vector<WorkerShare>> split_batch(
    const engine::ExpertBatch& batch, const std::function<Result<WorkerId>(ExpertId)>& worker_of) {
  struct Draft {
    std::vector<uint32_t> batch_rows;
    std::vector<Entry> entries;
  };
  std::map<WorkerId, Draft> drafts;
  std::map<ExpertId, WorkerId> chosen;
  for (uint32_t row = 0; row < batch.rows.rows; ++row) {
    for (size_t k = 0; k < batch.top_k; ++k) {
      const size_t at = row * batch.top_k + k;
      const ExpertId expert = batch.expert_ids[at];
      auto choice = chosen.find(expert);
      if (choice == chosen.end()) {
        PREGATE_ASSIGN(const WorkerId worker, worker_of(expert));
        choice = chosen.emplace(expert, worker).first;
      }
      Draft& draft = drafts[choice->second];
      if (draft.batch_rows.empty() || draft.batch_rows.back() != row) {
        draft.batch_rows.push_back(row);
      }
      const auto share_row = static_cast<uint32_t>(draft.batch_rows.size() - 1);
      draft.entries.push_back({expert, share_row, batch.gates[at]});
    }
  }
  std::vector<WorkerShare> shares;
  for (auto& [worker, draft] : drafts) {
    shares.push_back({worker, std::move(draft.batch_rows), make_table(draft.entries)});
  }
  return shares;
}

}  // namespace pregate::coordinator
