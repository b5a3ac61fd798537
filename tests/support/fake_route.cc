#include "tests/support/fake_route.h"

#include <algorithm>
#include <map>
#include <vector>

#include "base/check.h"
#include "compute/cuda/layout.h"

namespace pregate::compute::cuda {
namespace {

struct Choice {
  uint32_t row = 0;
  float gate = 0.0f;
};

/// A row's choices by expert.
std::map<uint32_t, std::vector<Choice>> choices_of(const RouteArgs& args) {
  std::map<uint32_t, std::vector<Choice>> choices;
  for (uint32_t i = 0; i < args.num_rows * args.k; ++i) {
    PREGATE_CHECK(args.ids[i] < args.num_experts);
    choices[args.ids[i]].push_back({i / args.k, args.chosen_gates[i]});
  }
  return choices;
}

}  // namespace

void fake_route(const RouteArgs& args) {
  std::fill_n(args.source, args.num_places, kNoRow);
  std::fill_n(args.gate_up, args.num_tiles, args.gate_up_shape);
  std::fill_n(args.down, args.num_tiles, args.down_shape);
  for (uint32_t row = 0; row <= args.num_rows; ++row) args.first[row] = row * args.k;
  std::vector<uint32_t> next(args.first, args.first + args.num_rows);
  uint32_t tile = 0, place = 0;
  for (const auto& [expert, choices] : choices_of(args)) {
    PREGATE_CHECK(place + choices.size() <= args.num_places);
    const auto num_rows = uint32_t(choices.size());
    const uint32_t rows_of_tile = cut_tiles(num_rows).max_rows;
    for (uint32_t at = 0; at < num_rows; at += rows_of_tile, ++tile) {
      PREGATE_CHECK(tile < args.num_tiles);
      args.gate_up[tile].weights = args.experts[expert].gate_up;
      args.down[tile].weights = args.experts[expert].down;
      args.gate_up[tile].first_row = args.down[tile].first_row = place + at;
      args.gate_up[tile].num_rows = args.down[tile].num_rows =
          std::min(rows_of_tile, num_rows - at);
    }
    for (const Choice& choice : choices) {
      args.source[place] = choice.row;
      args.gates[next[choice.row]] = choice.gate;
      args.place[next[choice.row]++] = place++;
    }
    place = uint32_t(round_up(place, kAtomRows));
  }
}

}  // namespace pregate::compute::cuda
