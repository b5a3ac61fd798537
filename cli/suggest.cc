#include "cli/suggest.h"

#include <algorithm>
#include <vector>

#include <fmt/format.h>

namespace pregate::cli {
namespace {

std::string normalized(std::string_view word) {
  word.remove_prefix(std::min(word.find_first_not_of('-'), word.size()));
  std::string text(word);
  std::replace(text.begin(), text.end(), '_', '-');
  return text;
}

// Optimal string alignment: row i of the table needs the two rows before it.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1), previous(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    before.swap(previous);
    previous.swap(row);
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = previous[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({previous[j] + 1, row[j - 1] + 1, replaced});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
    }
  }
  return row.back();
}

}  // namespace

std::string nearest(std::string_view word, std::span<const std::string> known) {
  const std::string wanted = normalized(word);
  // One slip in three letters: enough for typing errors, too little for another word.
  size_t best_distance = wanted.size() / 3 + 1;
  std::string best;
  for (const std::string& candidate : known) {
    const size_t distance = edit_distance(wanted, normalized(candidate));
    if (distance < best_distance || (distance == best_distance && best.empty())) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

std::string did_you_mean(std::string_view word, std::span<const std::string> known) {
  const std::string found = nearest(word, known);
  return found.empty() ? "" : fmt::format("; did you mean {}?", found);
}

}  // namespace pregate::cli
