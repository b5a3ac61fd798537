// Experts of this process, of which a test takes some away for a while.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "compute/backend.h"
#include "engine/expert_client.h"

namespace pregate::test_support {

using ExpertKey = std::pair<LayerIdx, ExpertId>;

/// What is lost. Outlives the experts; thread-safe.
class Losses {
 public:
  void lose(const ExpertKey& expert) {
    change([&] { lost_.insert(expert); });
  }
  void find_all() {
    change([&] { lost_.clear(); });
  }
  bool is_lost(LayerIdx layer, ExpertId expert) const {
    std::lock_guard lock(mutex_);
    return lost_.contains({layer, expert});
  }
  void watch(std::function<void()> changed) {
    std::lock_guard lock(mutex_);
    changed_ = std::move(changed);
  }

  std::atomic<bool> all_fail{false};  ///< combine() ends in an error.
  std::atomic<size_t> num_dispatches{0};

 private:
  void change(const std::function<void()>& how) {
    std::lock_guard lock(mutex_);
    how();
    if (changed_) changed_();
  }

  mutable std::mutex mutex_;
  std::set<ExpertKey> lost_;       // guarded by mutex_
  std::function<void()> changed_;  // guarded by mutex_
};

class LosableExperts final : public engine::ExpertClient {
 public:
  /// `backend` is the engine's.
  LosableExperts(std::unique_ptr<engine::ExpertClient> experts, Losses& losses,
                 compute::Backend& backend)
      : experts_(std::move(experts)), losses_(losses), backend_(backend) {}

  Result<engine::DispatchTicket> dispatch(const engine::ExpertBatch& batch) override {
    ++losses_.num_dispatches;
    rows_of_dispatches.push_back(batch.rows.rows);
    batch_ = batch;
    return experts_->dispatch(batch);
  }
  Result<std::vector<engine::HomelessRow>> combine(engine::DispatchTicket ticket,
                                                   compute::Matrix<float> out) override {
    PREGATE_TRY(experts_->combine(ticket, out));
    if (losses_.all_fail) return fail(ErrorCode::kUnavailable, "worker 3 is gone");
    std::vector<engine::HomelessRow> homeless;
    for (size_t i = 0; i < batch_.expert_ids.size(); ++i) {
      if (!losses_.is_lost(batch_.layer, batch_.expert_ids[i])) continue;
      homeless.push_back({static_cast<uint32_t>(i / batch_.top_k), batch_.expert_ids[i]});
      const std::vector<float> nothing(out.cols, 1e9f);
      backend_.write(out.row(i / batch_.top_k).data(), nothing.data(), out.cols * sizeof(float));
    }
    return homeless;
  }
  bool has_homes(const engine::MissingExperts& missing) const override {
    for (const ExpertId expert : missing.experts) {
      if (losses_.is_lost(missing.layer, expert)) return false;
    }
    return true;
  }
  void watch_homes(std::function<void()> changed) override { losses_.watch(std::move(changed)); }

  std::vector<size_t> rows_of_dispatches;  ///< The engine's thread.

 private:
  const std::unique_ptr<engine::ExpertClient> experts_;
  Losses& losses_;
  compute::Backend& backend_;
  engine::ExpertBatch batch_;
};

}  // namespace pregate::test_support
