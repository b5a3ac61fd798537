// "Did you mean": the known word nearest to a mistyped one.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace pregate::cli {

/// The word of `known` with the fewest insertions, deletions, replacements and swaps of neighbours
/// away from `word`; empty if none is near. '_' counts as '-', and leading dashes do not count.
std::string nearest(std::string_view word, std::span<const std::string> known);

/// "; did you mean X?", or nothing where nearest() has none.
std::string did_you_mean(std::string_view word, std::span<const std::string> known);

}  // namespace pregate::cli
