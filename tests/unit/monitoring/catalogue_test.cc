// METRICS.md against what the processes report, in both directions.
#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>
#include <sstream>
#include <string>

#include <gtest/gtest.h>

#include "base/mapped_file.h"
#include "monitoring/metrics/cluster_probe.h"
#include "monitoring/metrics/dispatch_probe.h"
#include "monitoring/metrics/expert_cache_probe.h"
#include "monitoring/metrics/http_probe.h"
#include "monitoring/metrics/lookahead_probe.h"
#include "monitoring/metrics/nccl_probe.h"
#include "monitoring/metrics/serving_probe.h"
#include "monitoring/metrics/start_probe.h"
#include "monitoring/metrics/worker_probe.h"

namespace pregate::monitoring {
namespace {

struct Entry {
  std::string type;
  std::set<std::string> labels;
  bool operator==(const Entry&) const = default;
};

void PrintTo(const Entry& entry, std::ostream* out) {
  *out << entry.type << " {";
  for (const auto& label : entry.labels) *out << label << ' ';
  *out << '}';
}

using Catalogue = std::map<std::string, Entry>;

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::stringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) {
    const size_t begin = part.find_first_not_of(" `");
    const size_t end = part.find_last_not_of(" `");
    parts.push_back(begin == std::string::npos ? "" : part.substr(begin, end - begin + 1));
  }
  return parts;
}

/// The rows of METRICS.md whose role column names `role`.
Catalogue read_page(const std::string& role) {
  const auto page = read_file(PREGATE_SOURCE_DIR "/monitoring/METRICS.md");
  Catalogue catalogue;
  std::stringstream lines(page.value());
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("| `")) continue;
    const auto cells = split(line, '|');  // cells[0] is what stands before the first bar
    if (cells.size() != 7) throw std::runtime_error("METRICS.md: not six columns: " + line);
    if (cells[5].find(role) == std::string::npos) continue;
    Entry entry{cells[2], {}};
    for (const auto& label : split(cells[3], ',')) {
      if (!label.empty()) entry.labels.insert(label);
    }
    if (!catalogue.emplace(cells[1], entry).second) {
      throw std::runtime_error("METRICS.md: twice: " + cells[1]);
    }
  }
  return catalogue;
}

std::set<std::string> label_names(const std::string& sample) {
  std::set<std::string> names;
  const size_t open = sample.find('{');
  if (open == std::string::npos) return names;
  const size_t close = sample.find('}', open);
  for (const auto& pair : split(sample.substr(open + 1, close - open - 1), ',')) {
    const std::string name = pair.substr(0, pair.find('='));
    if (name != "le") names.insert(name);
  }
  return names;
}

Catalogue read_scrape(const std::string& text) {
  Catalogue catalogue;
  std::stringstream lines(text);
  std::string current;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("# TYPE ")) {
      const auto words = split(line, ' ');
      current = words[2];
      catalogue[current].type = words[3];
    } else if (!line.empty() && line[0] != '#') {
      catalogue[current].labels.merge(label_names(line));
    }
  }
  return catalogue;
}

std::string coordinator_scrape() {
  Registry registry;
  StartProbe(registry, "1").phase_finished("weights", std::chrono::seconds(1));
  HttpProbe(registry).request_finished("/metrics", "GET", 200, std::chrono::seconds(1));
  ServingProbe serving(registry, "m");
  serving.set_cache_config(16, 100);
  serving.set_batch_policy("decode-first");
  DispatchProbe(registry, {.num_layers = 1, .num_experts = 1, .per_expert = true})
      .dispatched("w", 1, 1);
  LookaheadProbe(registry, "auto", {LayerIdx(0)}).set_active(false);
  ClusterProbe cluster(registry, {{"ready"}, {"too_many"}, {"finished"}});
  cluster.worker_changed("w", "ready", true);
  return registry.scrape();
}

std::string worker_scrape() {
  Registry registry;
  StartProbe(registry, "1").phase_finished("weights", std::chrono::seconds(1));
  HttpProbe(registry).request_finished("/metrics", "GET", 200, std::chrono::seconds(1));
  const WorkerProbe probe(registry);
  return registry.scrape();
}

std::string cache_scrape() {
  Registry registry;
  const ExpertCacheProbe probe(registry);
  return registry.scrape();
}

std::string nccl_scrape() {
  Registry registry;
  const NcclProbe probe(registry);
  return registry.scrape();
}

/// Without what every process reports of itself.
Catalogue without_process(Catalogue catalogue) {
  std::erase_if(catalogue, [](const auto& entry) { return entry.first.starts_with("process_"); });
  return catalogue;
}

TEST(Catalogue, ListsExactlyWhatTheCoordinatorReports) {
  EXPECT_EQ(read_scrape(coordinator_scrape()), read_page("C"));
}

TEST(Catalogue, ListsExactlyWhatAWorkerReports) {
  EXPECT_EQ(read_scrape(worker_scrape()), read_page("W"));
}

TEST(Catalogue, ListsExactlyWhatAMemoryForExpertsAdds) {
  EXPECT_EQ(without_process(read_scrape(cache_scrape())), read_page("M"));
}

TEST(Catalogue, ListsExactlyWhatNcclAdds) {
  EXPECT_EQ(without_process(read_scrape(nccl_scrape())), read_page("N"));
}

TEST(Catalogue, PromtoolCanReadTheScrape) {
  if (std::system("command -v promtool >/dev/null 2>&1") != 0) GTEST_SKIP() << "no promtool here";
  for (const std::string& text :
       {coordinator_scrape(), worker_scrape(), cache_scrape(), nccl_scrape()}) {
    // promtool's exit status 3 means advice about naming (vLLM's names are not all to its taste).
    FILE* promtool = popen("promtool check metrics >/dev/null 2>&1", "w");
    ASSERT_NE(promtool, nullptr);
    fwrite(text.data(), 1, text.size(), promtool);
    const int status = pclose(promtool);
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_TRUE(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 3) << WEXITSTATUS(status);
  }
}

}  // namespace
}  // namespace pregate::monitoring
