#include "coordinator/dispatch/split_batch.h"

#include <algorithm>
#include <map>

namespace pregate::coordinator {
namespace {

struct Entry {
  ExpertId expert;
  uint32_t row;
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

/// `entries` row by row; their rows are places in the batch.
std::vector<Share> split(const std::vector<Entry>& entries, const ChooseWorker& choose) {
  struct Draft {
    std::vector<uint32_t> batch_rows;
    std::vector<Entry> entries;
  };
  std::map<std::optional<WorkerId>, Draft> drafts;
  std::map<ExpertId, std::optional<WorkerId>> chosen;
  for (const Entry& entry : entries) {
    auto choice = chosen.find(entry.expert);
    if (choice == chosen.end()) choice = chosen.emplace(entry.expert, choose(entry.expert)).first;
    Draft& draft = drafts[choice->second];
    if (draft.batch_rows.empty() || draft.batch_rows.back() != entry.row) {
      draft.batch_rows.push_back(entry.row);
    }
    const auto share_row = static_cast<uint32_t>(draft.batch_rows.size() - 1);
    draft.entries.push_back({entry.expert, share_row, entry.gate});
  }
  std::vector<Share> shares;
  for (auto& [worker, draft] : drafts) {
    shares.push_back({worker, std::move(draft.batch_rows), make_table(draft.entries)});
  }
  return shares;
}

}  // namespace

std::vector<Share> split_batch(const engine::ExpertBatch& batch, const ChooseWorker& choose) {
  std::vector<Entry> entries;
  entries.reserve(batch.expert_ids.size());
  for (size_t i = 0; i < batch.expert_ids.size(); ++i) {
    entries.push_back(
        {batch.expert_ids[i], static_cast<uint32_t>(i / batch.top_k), batch.gates[i]});
  }
  return split(entries, choose);
}

std::vector<Share> split_share(const Share& share, const ChooseWorker& choose) {
  const protocol::ExpertTable& table = share.table;
  std::vector<Entry> entries;
  size_t at = 0;
  for (size_t i = 0; i < table.experts.size(); ++i) {
    for (const size_t end = at + table.counts[i]; at < end; ++at) {
      entries.push_back({table.experts[i], share.batch_rows[table.rows[at]], table.gates[at]});
    }
  }
  std::stable_sort(entries.begin(), entries.end(),
                   [](const Entry& a, const Entry& b) { return a.row < b.row; });
  return split(entries, choose);
}

}  // namespace pregate::coordinator
