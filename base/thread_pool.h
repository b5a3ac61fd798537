// The threads that compute: a fixed team that runs one parallel loop at a time.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace pregate {

/// A team of `num_threads` threads, the caller being one of them. Between loops the others spin for
/// a short while (a decode step is hundreds of short loops) and then block, so that an idle team
/// leaves its cores to other processes.
///
/// One thread at a time may call run() or parallel_for(); they do not nest.
class ThreadPool {
 public:
  explicit ThreadPool(size_t num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  size_t num_threads() const { return threads_.size() + 1; }

  /// Calls `body(thread_idx)` once on every thread of the team; returns when all have returned.
  void run(const std::function<void(size_t thread_idx)>& body);

  /// Calls `body(task_idx, thread_idx)` for each task in [0, num_tasks); tasks are handed out one
  /// by one, so uneven tasks balance. Which thread runs a task must not change its result.
  void parallel_for(size_t num_tasks, const std::function<void(size_t, size_t)>& body);

 private:
  void serve(size_t thread_idx);
  bool wait_for_epoch(uint64_t seen);

  std::vector<std::jthread> threads_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<uint64_t> epoch_{0};      // counts run() calls; a change starts one
  std::atomic<size_t> num_running_{0};  // team members that have not finished this epoch
  std::atomic<bool> stopping_{false};
  const std::function<void(size_t)>* body_ = nullptr;  // published by epoch_
};

}  // namespace pregate
