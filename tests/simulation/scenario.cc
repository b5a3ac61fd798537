#include "tests/simulation/scenario.h"

#include <map>

#include <toml++/toml.h>

namespace pregate::simulation {
namespace {

const std::map<std::string, Trouble> kTroubles = {{"kill", Trouble::kKill},
                                                  {"freeze", Trouble::kFreeze},
                                                  {"cut", Trouble::kCut},
                                                  {"cut_to", Trouble::kCutTo},
                                                  {"cut_from", Trouble::kCutFrom},
                                                  {"bad_link", Trouble::kBadLink},
                                                  {"disk_error", Trouble::kDiskError},
                                                  {"join", Trouble::kJoin},
                                                  {"drain", Trouble::kDrain},
                                                  {"rebalance", Trouble::kRebalance},
                                                  {"pass_on", Trouble::kPassOn}};

Duration milliseconds(double value) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double, std::milli>(value));
}

/// Reads the keys of a table; what nobody asked for is an error.
class Keys {
 public:
  Keys(std::string where, const toml::table& table) : where_(std::move(where)), table_(table) {}

  template <typename T>
  void number(const char* key, T& value) {
    const toml::node* node = take(key);
    if (node == nullptr) return;
    const auto found = node->value<double>();
    if (!found || *found < 0) return reject(key, "expected a number");
    value = static_cast<T>(*found);
  }
  void duration(const char* key, Duration& value) {
    double ms = -1;
    number(key, ms);
    if (ms >= 0) value = milliseconds(ms);
  }
  template <typename Flag>
  void flag(const char* key, Flag& value) {
    const toml::node* node = take(key);
    if (node == nullptr) return;
    if (!node->is_boolean()) return reject(key, "expected true or false");
    value = node->value<bool>().value();
  }
  std::optional<Span> span(const char* key) {
    const toml::node* node = take(key);
    if (node == nullptr) return std::nullopt;
    const toml::array* range = node->as_array();
    if (range == nullptr || range->size() != 2 || !range->get(0)->is_number() ||
        !range->get(1)->is_number()) {
      reject(key, "expected [FROM, TO] in milliseconds");
      return std::nullopt;
    }
    const Span span{milliseconds(*range->get(0)->value<double>()),
                    milliseconds(*range->get(1)->value<double>())};
    if (span.to < span.from) reject(key, "ends before it begins");
    return span;
  }
  std::string text(const char* key) {
    const toml::node* node = take(key);
    return node == nullptr ? "" : node->value<std::string>().value_or("");
  }
  const toml::array* tables(const char* key) {
    const toml::node* node = take(key);
    return node == nullptr ? nullptr : node->as_array();
  }
  void reject(const std::string& key, const std::string& why) {
    if (status_) status_ = fail(ErrorCode::kInvalidArgument, "{}: {}: {}", where_, key, why);
  }
  Status finish() {
    for (const auto& [key, node] : table_) {
      if (!taken_.contains(std::string(key.str()))) reject(std::string(key.str()), "unknown key");
    }
    return status_;
  }

 private:
  const toml::node* take(const char* key) {
    taken_.emplace(key, true);
    return table_.get(key);
  }

  const std::string where_;
  const toml::table& table_;
  std::map<std::string, bool> taken_;
  Status status_;
};

Result<ScenarioEvent> read_event(const std::string& where, const toml::table& table) {
  ScenarioEvent event;
  Keys keys(where, table);
  const auto trouble = kTroubles.find(keys.text("do"));
  if (trouble == kTroubles.end()) {
    keys.reject("do",
                "expected kill, freeze, cut, cut_to, cut_from, bad_link, disk_error, join, "
                "drain, rebalance or pass_on");
  } else {
    event.trouble = trouble->second;
  }
  size_t worker = 0;
  keys.number("worker", worker);
  if (worker > 0) event.worker = worker;
  event.at = keys.span("at_ms").value_or(Span{});
  event.lasts = keys.span("for_ms");
  keys.number("drop", event.drop);
  keys.number("duplicate", event.duplicate);
  keys.number("reorder", event.reorder);
  keys.duration("delay_ms", event.delay);
  PREGATE_TRY(keys.finish());
  return event;
}

}  // namespace

Result<Scenario> read_scenario(const std::filesystem::path& file) {
  toml::table table;
  try {
    table = toml::parse_file(file.string());
  } catch (const toml::parse_error& error) {
    return fail(ErrorCode::kInvalidArgument, "{}:{}: {}", file.string(), error.source().begin.line,
                error.description());
  }
  Scenario scenario;
  scenario.name = file.stem().string();
  Keys keys(file.filename().string(), table);
  keys.number("workers", scenario.num_workers);
  keys.number("replicas", scenario.replicas);
  keys.number("sequences", scenario.num_sequences);
  keys.number("tokens", scenario.num_tokens);
  keys.duration("expert_wait_ms", scenario.expert_wait);
  keys.number("room_experts", scenario.room_experts);
  keys.duration("load_ms", scenario.load_time);
  keys.flag("lone_expert", scenario.lone_expert);
  keys.duration("limit_ms", scenario.limit);
  keys.flag("expect_unavailable", scenario.expect_unavailable);
  keys.flag("expect_calm", scenario.expect_calm);
  keys.flag("expect_passed_on", scenario.expect_passed_on);
  if (const toml::array* events = keys.tables("event")) {
    for (const toml::node& node : *events) {
      if (!node.is_table()) return fail(ErrorCode::kInvalidArgument, "event: expected a table");
      PREGATE_ASSIGN(auto event, read_event(file.filename().string() + " event", *node.as_table()));
      scenario.events.push_back(event);
    }
  }
  PREGATE_TRY(keys.finish());
  return scenario;
}

}  // namespace pregate::simulation
