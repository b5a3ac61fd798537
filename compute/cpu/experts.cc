// All experts of a layer in two parallel loops: gate and up with the activation, then down with the
// weighted sum. Letters: n rows of x, h hidden, f intermediate.
#include <algorithm>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "compute/cpu/backend.h"
#include "compute/cpu/loops.h"
#include "compute/cpu/panel_reader.h"

namespace pregate::compute::cpu {
namespace {

/// Rows of one task that an item of the first loop takes: their activations, f32 [rows][kQ8Group],
/// stay in the second-level cache until they are encoded.
constexpr size_t kItemRows = 128;

/// A task, checked, and where its rows are in the arrays over the rows of all tasks.
struct PlacedTask {
  const ExpertTask* task = nullptr;
  const CpuExpert* expert = nullptr;
  size_t first_row = 0;
  std::byte* encoded = nullptr;   // activations [rows][f] as encoded rows
  std::byte* prepared = nullptr;  // the same as prepared rows, or `encoded` where they are the same

  size_t num_rows() const { return task->rows.size(); }
};

/// A piece of the first loop: rows of a task times kQ8Group columns of gate and up. These columns
/// make one group of the activations, so the piece can also encode them.
struct GateUpItem {
  const PlacedTask* task = nullptr;
  size_t group = 0;
  size_t first_row = 0, num_rows = 0;  // within the task
};

class ExpertsCall {
 public:
  ExpertsCall(const KernelSet& kernels, WeightFormat format)
      : kernels_(kernels),
        multiply_(kernels.multiply_of(format)),
        encode_group_(kernels.encode_group[static_cast<size_t>(format)]),
        format_(format) {}

  void place(const EncodedRows& x, std::span<const ExpertTask> tasks, const Matrix<float>& out);
  size_t num_rows() const { return num_rows_; }
  size_t hidden_bytes() const { return hidden_bytes_; }
  /// Gives the call its memory: num_rows() pointers for the rows of x and for the activations, and
  /// hidden_bytes() for the latter.
  void point(std::span<const std::byte* const> x, std::span<const std::byte*> pointers,
             std::byte* hidden);

  const std::vector<GateUpItem>& items() const { return items_; }
  /// activations: scratch for kItemRows * kQ8Group numbers.
  void gate_up(const GateUpItem& item, float* activations, Scratch& panels) const;
  /// Sets the columns of panels [first, end) of out.
  void down(size_t first_panel, size_t end_panel, Matrix<float> out, Scratch& panels) const;

 private:
  size_t encoded_bytes(const CpuExpert& e) const {
    return encoded_row_bytes(format_, e.intermediate);
  }
  size_t prepared_bytes(const CpuExpert& e) const {
    return multiply_.prepare_group == nullptr ? 0 : multiply_.prepared_row_bytes(e.intermediate);
  }
  void add_items(const PlacedTask& task);
  void encode(const GateUpItem& item, const float* activations) const;
  void add_down(const PlacedTask& task, size_t panel, Matrix<float> out, Scratch& panels) const;

  const KernelSet& kernels_;
  const MultiplyKernel& multiply_;
  KernelSet::EncodeGroup encode_group_;
  WeightFormat format_;
  std::vector<PlacedTask> tasks_;
  std::vector<GateUpItem> items_;
  size_t num_rows_ = 0;
  size_t hidden_bytes_ = 0;
  const std::byte** x_rows_ = nullptr;       // [num_rows_]
  const std::byte** hidden_rows_ = nullptr;  // [num_rows_]
};

void ExpertsCall::place(const EncodedRows& x, std::span<const ExpertTask> tasks,
                        const Matrix<float>& out) {
  tasks_.reserve(tasks.size());
  for (const ExpertTask& task : tasks) {
    const auto* expert = dynamic_cast<const CpuExpert*>(task.expert);
    PREGATE_CHECK(expert != nullptr && expert->kernels == &kernels_);
    PREGATE_CHECK(expert->format() == format_ && x.cols == expert->hidden);
    PREGATE_CHECK(out.cols == expert->hidden && task.rows.size() == task.out_rows.size() &&
                  task.rows.size() == task.gates.size());
    for (const uint32_t row : task.rows) PREGATE_CHECK(row < x.rows);
    for (const uint32_t row : task.out_rows) PREGATE_CHECK(row < out.rows);
    if (task.rows.empty()) continue;
    tasks_.push_back({&task, expert, num_rows_, nullptr, nullptr});
    num_rows_ += task.rows.size();
    hidden_bytes_ += task.rows.size() * (encoded_bytes(*expert) + prepared_bytes(*expert));
  }
  for (const PlacedTask& task : tasks_) add_items(task);
}

void ExpertsCall::add_items(const PlacedTask& task) {
  for (size_t group = 0; group < divide_up(task.expert->intermediate, kQ8Group); ++group) {
    for_pieces(task.num_rows(), kItemRows, [&](size_t first, size_t count) {
      items_.push_back({&task, group, first, count});
    });
  }
}

void ExpertsCall::point(std::span<const std::byte* const> x, std::span<const std::byte*> pointers,
                        std::byte* hidden) {
  x_rows_ = pointers.data();
  hidden_rows_ = pointers.data() + num_rows_;
  for (PlacedTask& task : tasks_) {
    const size_t encoded = encoded_bytes(*task.expert);
    const size_t prepared = prepared_bytes(*task.expert);
    task.encoded = hidden;
    task.prepared = prepared == 0 ? hidden : hidden + task.num_rows() * encoded;
    const size_t row_bytes = prepared == 0 ? encoded : prepared;
    for (size_t i = 0; i < task.num_rows(); ++i) {
      x_rows_[task.first_row + i] = x[task.task->rows[i]];
      hidden_rows_[task.first_row + i] = task.prepared + i * row_bytes;
    }
    hidden += task.num_rows() * (encoded + prepared);
  }
}

void ExpertsCall::gate_up(const GateUpItem& item, float* activations, Scratch& panels) const {
  const CpuExpert& expert = *item.task->expert;
  const size_t panel_outputs = kernels_.panel_outputs;
  const size_t first_col = item.group * kQ8Group;
  const size_t end_col = std::min(first_col + kQ8Group, expert.intermediate);
  const std::byte* const* rows = x_rows_ + item.task->first_row + item.first_row;
  const PanelReader reader(kernels_, format_, item.num_rows, expert.hidden, panels);
  const MultiplyKernel& kernel = reader.kernel();
  alignas(64) float gate[kMaxTileRows * kMaxPanelOutputs], up[kMaxTileRows * kMaxPanelOutputs];
  for (size_t col = first_col; col < end_col; col += panel_outputs) {
    const size_t panel = col / panel_outputs;
    const size_t num_cols = std::min(panel_outputs, end_col - col);
    const std::byte* gate_panel = reader.read(expert.gate_up.panel(2 * panel), 0);
    const std::byte* up_panel = reader.read(expert.gate_up.panel(2 * panel + 1), 1);
    for_pieces(item.num_rows, kernel.max_rows, [&](size_t first, size_t count) {
      kernel.multiply({rows + first, count, expert.hidden, gate_panel, gate});
      kernel.multiply({rows + first, count, expert.hidden, up_panel, up});
      for (size_t r = 0; r < count; ++r) {
        kernels_.silu_multiply(gate + r * panel_outputs, up + r * panel_outputs, num_cols,
                               activations + (first + r) * kQ8Group + col - first_col);
      }
    });
  }
  encode(item, activations);
}

void ExpertsCall::encode(const GateUpItem& item, const float* activations) const {
  const CpuExpert& expert = *item.task->expert;
  const size_t num_cols = std::min(kQ8Group, expert.intermediate - item.group * kQ8Group);
  for (size_t r = 0; r < item.num_rows; ++r) {
    const size_t row = item.first_row + r;
    std::byte* encoded = item.task->encoded + row * encoded_bytes(expert);
    encode_group_(activations + r * kQ8Group, num_cols, expert.intermediate, item.group, encoded);
    if (multiply_.prepare_group == nullptr) continue;
    multiply_.prepare_group(encoded, expert.intermediate, item.group,
                            item.task->prepared + row * prepared_bytes(expert));
  }
}

void ExpertsCall::down(size_t first_panel, size_t end_panel, Matrix<float> out,
                       Scratch& panels) const {
  const size_t first_col = first_panel * kernels_.panel_outputs;
  const size_t end_col = std::min(end_panel * kernels_.panel_outputs, out.cols);
  for (size_t r = 0; r < out.rows; ++r) {
    std::fill(out.row(r).data() + first_col, out.row(r).data() + end_col, 0.0f);
  }
  for (const PlacedTask& task : tasks_) {
    for (size_t panel = first_panel; panel < end_panel; ++panel) {
      add_down(task, panel, out, panels);
    }
  }
}

void ExpertsCall::add_down(const PlacedTask& task, size_t panel, Matrix<float> out,
                           Scratch& panels) const {
  const CpuExpert& expert = *task.expert;
  const size_t panel_outputs = kernels_.panel_outputs;
  const size_t first_col = panel * panel_outputs;
  const size_t num_cols = std::min(panel_outputs, out.cols - first_col);
  const std::byte* const* rows = hidden_rows_ + task.first_row;
  const PanelReader reader(kernels_, format_, task.num_rows(), expert.intermediate, panels);
  const MultiplyKernel& kernel = reader.kernel();
  const std::byte* weights = reader.read(expert.down.panel(panel));
  alignas(64) float tile[kMaxTileRows * kMaxPanelOutputs];
  for_pieces(task.num_rows(), kernel.max_rows, [&](size_t first, size_t count) {
    kernel.multiply({rows + first, count, expert.intermediate, weights, tile});
    for (size_t r = 0; r < count; ++r) {
      const float gate = task.task->gates[first + r];
      const float* from = tile + r * panel_outputs;
      float* to = out.row(task.task->out_rows[first + r]).data() + first_col;
      for (size_t c = 0; c < num_cols; ++c) to[c] += gate * from[c];
    }
  });
}

}  // namespace

void CpuBackend::experts(const EncodedRows& x, std::span<const ExpertTask> tasks,
                         Matrix<float> out) {
  PREGATE_CHECK(tasks.empty() || tasks.front().expert != nullptr);
  const WeightFormat format = tasks.empty() ? x.format : tasks.front().expert->format();
  PREGATE_CHECK(arithmetic_of(x.format) == arithmetic_of(format));
  ExpertsCall call(kernels_, format);
  call.place(x, tasks, out);
  const auto x_rows = prepare(x, format);
  call.point(x_rows, task_row_pointers_.take<const std::byte*>(2 * call.num_rows()),
             hidden_.take<std::byte>(call.hidden_bytes()).data());
  for (ThreadScratch& scratch : thread_scratch_) scratch.numbers.take<float>(kItemRows * kQ8Group);
  threads_.parallel_for(call.items().size(), [&](size_t item, size_t thread) {
    ThreadScratch& scratch = thread_scratch_[thread];
    call.gate_up(call.items()[item], scratch.numbers.take<float>(kItemRows * kQ8Group).data(),
                 scratch.panels);
  });
  const size_t all_panels = num_panels(kernels_, out.cols);
  const size_t item_panels = panels_per_item(all_panels, threads_.num_threads());
  threads_.parallel_for(divide_up(all_panels, item_panels), [&](size_t item, size_t thread) {
    const size_t first = item * item_panels;
    call.down(first, std::min(first + item_panels, all_panels), out,
              thread_scratch_[thread].panels);
  });
}

}  // namespace pregate::compute::cpu
