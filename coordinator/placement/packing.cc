#include "coordinator/placement/packing.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <unordered_map>

namespace pregate::coordinator {
namespace {

/// Times that differ by less are equal: they are sums in different orders.
constexpr double kEpsilon = 1e-9;
/// Of the mean of a layer: what an idle expert counts for.
constexpr double kLeastWeight = 1.0 / 16;
/// The time of a layer's busiest worker that is not worth working on: loads are known less well.
constexpr double kGoodTime = 1.005;
/// Speeds within this factor of each other are equal.
constexpr double kSpeedNoise = 1.25;

double or_zero(double x) { return std::isfinite(x) && x > 0 ? x : 0; }

/// One over each worker's share of all speed. The slowest and those within the noise of it get the
/// mean of their speeds, then those next to them, and so on. Unknown speeds count as the slowest
/// known.
std::vector<double> paces_of(const std::vector<WorkerRoom>& workers) {
  std::vector<double> speeds;
  for (const WorkerRoom& worker : workers) speeds.push_back(or_zero(worker.rows_per_second));
  double slowest = 0;
  for (const double speed : speeds) {
    if (speed > 0 && (slowest == 0 || speed < slowest)) slowest = speed;
  }
  std::vector<size_t> order(speeds.size());
  std::iota(order.begin(), order.end(), 0);
  for (double& speed : speeds) speed = speed > 0 ? speed : slowest > 0 ? slowest : 1;
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return speeds[a] < speeds[b]; });
  for (size_t begin = 0, end = 0; begin < order.size(); begin = end) {
    double sum = 0;
    const double most = speeds[order[begin]] * kSpeedNoise;
    while (end < order.size() && speeds[order[end]] <= most) sum += speeds[order[end++]];
    const double mean = sum / static_cast<double>(end - begin);
    for (size_t i = begin; i < end; ++i) speeds[order[i]] = mean;
  }
  const double sum = std::accumulate(speeds.begin(), speeds.end(), 0.0);
  for (double& speed : speeds) speed = sum / speed;
  return speeds;
}

/// Adds the experts' shares of a layer's rows to `weights`.
void append_weights(const std::vector<double>& loads, size_t num_experts,
                    std::vector<double>& weights) {
  std::vector<double> layer(num_experts, 0);
  for (size_t i = 0; i < std::min(num_experts, loads.size()); ++i) layer[i] = or_zero(loads[i]);
  const double mean = std::accumulate(layer.begin(), layer.end(), 0.0) /
                      static_cast<double>(std::max<size_t>(num_experts, 1));
  for (double& load : layer) load = mean > 0 ? std::max(load, mean * kLeastWeight) : 1;
  const double sum = std::accumulate(layer.begin(), layer.end(), 0.0);
  for (const double load : layer) weights.push_back(load / sum);
}

}  // namespace

Packing::Packing(const PlacementProblem& problem)
    : problem_(problem), paces_(paces_of(problem.workers)) {
  for (size_t layer = 0; layer < num_layers(); ++layer) {
    static const std::vector<double> kAlike;
    append_weights(layer < problem.loads.size() ? problem.loads[layer] : kAlike, num_experts(),
                   weights_);
  }
  shares_ = weights_;
  parts_.assign(num_items(), 1);
  holders_.resize(num_items());
  items_.resize(num_layers() * num_workers());
  loads_.assign(num_layers() * num_workers(), 0);
  totals_.assign(num_workers(), 0);
  counts_.assign(num_workers(), 0);
  common_.assign(num_workers() * num_workers(), 0);
}

Packing::Packing(const PlacementProblem& problem, const Placement& current) : Packing(problem) {
  std::unordered_map<WorkerId, size_t> position;
  for (size_t i = 0; i < num_workers(); ++i) position.emplace(problem.workers[i].id, i);
  for (size_t item = 0; item < num_items(); ++item) {
    const LayerIdx layer = problem.shape.layers[layer_of(item)];
    const ExpertId expert(static_cast<uint32_t>(item % num_experts()));
    for (const WorkerId worker : current.workers(layer, expert)) {
      const auto found = position.find(worker);
      if (found != position.end() && !holds(found->second, item)) add(item, found->second);
    }
  }
}

bool Packing::holds(size_t worker, size_t item) const {
  const auto& holders = holders_[item];
  return std::find(holders.begin(), holders.end(), worker) != holders.end();
}

const std::vector<size_t>& Packing::items_at(size_t layer, size_t worker) const {
  return items_[layer * num_workers() + worker];
}

double Packing::time(size_t layer, size_t worker) const { return time_with(layer, worker, 0); }

double Packing::time_with(size_t layer, size_t worker, double rows) const {
  return (loads_[layer * num_workers() + worker] + rows) * paces_[worker];
}

double Packing::longest_time(size_t layer) const {
  double longest = 0;
  for (size_t i = 0; i < num_workers(); ++i) longest = std::max(longest, time(layer, i));
  return longest;
}

double Packing::longest_total_time() const {
  double longest = 0;
  for (size_t i = 0; i < num_workers(); ++i) longest = std::max(longest, total_time(i));
  return longest;
}

size_t Packing::room(size_t worker) const {
  const size_t most = problem_.workers[worker].max_experts;
  return most - std::min(most, counts_[worker]);
}

bool Packing::is_over_full(size_t worker) const {
  return counts_[worker] > problem_.workers[worker].max_experts;
}

bool Packing::has_room(size_t layer, size_t worker) const {
  if (room(worker) == 0) return false;
  return layer_bounds_.empty() || items_at(layer, worker).size() < layer_bounds_[worker];
}

void Packing::carry(size_t item, size_t worker, double rows) {
  loads_[layer_of(item) * num_workers() + worker] += rows;
  totals_[worker] += rows / static_cast<double>(num_layers());
}

void Packing::link(size_t item, size_t worker) {
  for (const size_t other : holders_[item]) {
    ++common_[other * num_workers() + worker];
    ++common_[worker * num_workers() + other];
  }
  holders_[item].push_back(worker);
  items_[layer_of(item) * num_workers() + worker].push_back(item);
  ++counts_[worker];
}

void Packing::unlink(size_t item, size_t worker) {
  std::erase(holders_[item], worker);
  for (const size_t other : holders_[item]) {
    --common_[other * num_workers() + worker];
    --common_[worker * num_workers() + other];
  }
  std::erase(items_[layer_of(item) * num_workers() + worker], item);
  --counts_[worker];
}

void Packing::rescale(size_t item, size_t parts) {
  const double before = share(item);
  parts_[item] = std::max<size_t>(parts, 1);
  shares_[item] = weights_[item] / static_cast<double>(parts_[item]);
  const double change = share(item) - before;
  if (change == 0) return;
  for (const size_t worker : holders_[item]) carry(item, worker, change);
}

void Packing::settle(size_t item) { rescale(item, holders_[item].size()); }

void Packing::add(size_t item, size_t worker) {
  rescale(item, std::max(parts_[item], holders_[item].size() + 1));
  link(item, worker);
  carry(item, worker, share(item));
  changes_.push_back({item, {}, worker});
}

void Packing::drop(size_t item, size_t worker) {
  carry(item, worker, -share(item));
  unlink(item, worker);
  settle(item);
  changes_.push_back({item, worker, {}});
}

void Packing::move(size_t item, size_t from, size_t to) {
  carry(item, from, -share(item));
  unlink(item, from);
  link(item, to);
  carry(item, to, share(item));
  changes_.push_back({item, from, to});
}

void Packing::take(const Step& step) {
  move(step.item, step.from, step.to);
  if (step.in_exchange) move(*step.in_exchange, step.to, step.from);
}

void Packing::set_holders(size_t item, std::vector<size_t> workers) {
  std::vector<size_t> leaving = holders_[item];
  for (const size_t worker : holders_[item]) {
    if (std::erase(workers, worker) > 0) std::erase(leaving, worker);
  }
  for (size_t i = 0; i < leaving.size(); ++i) move(item, leaving[i], workers[i]);
}

void Packing::roll_back(size_t mark) {
  while (changes_.size() > mark) {
    const Change change = changes_.back();
    if (change.from && change.to) {
      move(change.item, *change.to, *change.from);
    } else if (change.to) {
      drop(change.item, *change.to);
    } else {
      add(change.item, *change.from);
    }
    changes_.resize(changes_.size() - 2);
  }
}

size_t Packing::num_moves_since(size_t mark) const {
  return static_cast<size_t>(
      std::count_if(changes_.begin() + static_cast<ptrdiff_t>(mark), changes_.end(),
                    [](const Change& change) { return change.to.has_value(); }));
}

bool Packing::Cost::operator<(const Cost& other) const {
  if (std::abs(time - other.time) > kEpsilon) return time < other.time;
  if (common != other.common) return common < other.common;
  return total < other.total - kEpsilon;
}

Packing::Cost Packing::cost_of(size_t item, size_t worker) const {
  const double rows = share(item);
  Cost cost;
  cost.time = time_with(layer_of(item), worker, rows);
  for (const size_t other : holders_[item]) {
    cost.common += common_[other * num_workers() + worker];
  }
  cost.total = total_time(worker);
  return cost;
}

std::optional<size_t> Packing::best_worker(size_t item) const {
  std::optional<size_t> best;
  Cost least;
  for (size_t worker = 0; worker < num_workers(); ++worker) {
    if (!has_room(layer_of(item), worker) || holds(worker, item)) continue;
    const Cost cost = cost_of(item, worker);
    if (best && !(cost < least)) continue;
    best = worker;
    least = cost;
  }
  return best;
}

std::optional<Packing::Step> Packing::relieve(size_t layer) const {
  if (num_workers() == 0) return std::nullopt;
  size_t busiest = 0;
  for (size_t i = 1; i < num_workers(); ++i) {
    if (time(layer, i) > time(layer, busiest) + kEpsilon) busiest = i;
  }
  if (time(layer, busiest) <= kGoodTime) return std::nullopt;
  // Moves first: they cost half as much, and there are fewer of them to try.
  if (auto step = best_move(layer, busiest)) return step;
  return best_exchange(layer, busiest);
}

std::optional<Packing::Step> Packing::best_move(size_t layer, size_t busiest) const {
  std::optional<Step> best;
  double least = time(layer, busiest) - kEpsilon;
  for (size_t to = 0; to < num_workers(); ++to) {
    if (to == busiest || !has_room(layer, to) || time(layer, to) >= least) continue;
    for (const size_t item : items_at(layer, busiest)) {
      const double longest =
          std::max(time_with(layer, busiest, -share(item)), time_with(layer, to, share(item)));
      if (longest >= least - kEpsilon || holds(to, item)) continue;
      least = longest;
      best = Step{busiest, to, item, {}};
    }
  }
  return best;
}

std::optional<Packing::Step> Packing::best_exchange(size_t layer, size_t busiest) const {
  std::optional<Step> best;
  double least = time(layer, busiest) - kEpsilon;
  for (size_t to = 0; to < num_workers(); ++to) {
    if (to == busiest || time(layer, to) >= least) continue;
    for (const size_t item : items_at(layer, busiest)) {
      if (holds(to, item)) continue;
      for (const size_t other : items_at(layer, to)) {
        const double rows = share(item) - share(other);
        if (rows <= 0) continue;
        const double longest =
            std::max(time_with(layer, busiest, -rows), time_with(layer, to, rows));
        if (longest >= least - kEpsilon || holds(busiest, other)) continue;
        least = longest;
        best = Step{busiest, to, item, other};
      }
    }
  }
  return best;
}

std::optional<Packing::Step> Packing::relieve_overall() const {
  if (num_workers() == 0) return std::nullopt;
  std::vector<size_t> order(num_workers());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return total_time(a) < total_time(b); });
  for (const size_t to : order) {
    if (auto step = step_between(order.back(), to)) return step;
  }
  return std::nullopt;
}

std::optional<Packing::Step> Packing::step_between(size_t from, size_t to) const {
  if (from == to || room(to) == 0) return std::nullopt;
  for (size_t layer = 0; layer < num_layers(); ++layer) {
    const double longest = std::max(time(layer, from), time(layer, to)) + kEpsilon;
    for (const size_t item : items_at(layer, from)) {
      const double rows = share(item);
      const double per_layer = rows / static_cast<double>(num_layers());
      const bool helps = (totals_[to] + per_layer) * paces_[to] < total_time(from) - kEpsilon;
      if (helps && time_with(layer, to, rows) <= longest && !holds(to, item)) {
        return Step{from, to, item, {}};
      }
    }
  }
  return std::nullopt;
}

Placement Packing::to_placement(uint64_t version) const {
  Placement placement(version, problem_.shape);
  for (size_t item = 0; item < num_items(); ++item) {
    std::vector<size_t> workers = holders_[item];
    std::sort(workers.begin(), workers.end());
    for (const size_t worker : workers) {
      placement.add_replica(problem_.shape.layers[layer_of(item)],
                            ExpertId(static_cast<uint32_t>(item % num_experts())),
                            problem_.workers[worker].id);
    }
  }
  return placement;
}

}  // namespace pregate::coordinator
