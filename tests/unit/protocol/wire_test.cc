// Reads the tables of protocol/WIRE.md and finds every field of encoded messages where they say.
#include <cstring>
#include <fstream>
#include <map>
#include <regex>

#include <gtest/gtest.h>

#include "protocol/codec.h"

namespace pregate::protocol {
namespace {

struct Field {
  size_t offset = 0;
  std::string type;
};
using Table = std::map<std::string, Field>;

/// Section title to table; the second table of a section gets " (2)".
std::map<std::string, Table> read_tables() {
  std::ifstream file(std::string(PREGATE_SOURCE_DIR) + "/protocol/WIRE.md");
  std::map<std::string, Table> tables;
  std::string line, title;
  const std::regex row(R"(\| (\d+) \| (\S+) \| (\S+) \|)");
  for (std::smatch match; std::getline(file, line);) {
    if (line.starts_with("## ")) title = line.substr(3);
    if (line.starts_with("### ")) title = line.substr(4);
    if (line.starts_with("| offset") && tables.contains(title)) title += " (2)";
    if (!std::regex_match(line, match, row)) continue;
    std::string name = match[3];
    if (name == "reserved") name += match[1];
    tables[title][name] = {std::stoul(match[1]), match[2]};
  }
  return tables;
}

size_t type_bytes(const std::string& type) {
  if (type == "text") return 2;
  const size_t bytes = std::stoul(type.substr(1)) / 8;
  const size_t bracket = type.find('[');
  return bracket == std::string::npos ? bytes : bytes * std::stoul(type.substr(bracket + 1));
}

/// The number at its place; of a longer field, its first eight bytes.
uint64_t number_at(const Bytes& bytes, const Field& field) {
  uint64_t value = 0;
  std::memcpy(&value, bytes.data() + field.offset, std::min<size_t>(type_bytes(field.type), 8));
  return value;
}

/// The fields lie one after another, and fill the header up to its last text.
void expect_gapless(const Table& table, size_t header_bytes) {
  std::map<size_t, size_t> ends;
  for (const auto& [name, field] : table) {
    ends[field.offset] = field.offset + type_bytes(field.type);
  }
  size_t at = 0;
  for (const auto& [begin, end] : ends) {
    EXPECT_EQ(begin, at);
    at = end;
  }
  EXPECT_EQ(at, header_bytes);
}

template <typename Message>
void expect_layout(const std::string& title, const Message& message,
                   const std::map<std::string, uint64_t>& values) {
  SCOPED_TRACE(title);
  const auto tables = read_tables();
  ASSERT_TRUE(tables.contains(title));
  const Table& table = tables.at(title);
  const Bytes header = encode_header(message);
  expect_gapless(table, header.size());
  EXPECT_EQ(number_at(header, table.at("type")), std::stoul(title));
  EXPECT_EQ(static_cast<uint64_t>(decode_type(header).value()), std::stoul(title));
  EXPECT_EQ(number_at(header, table.at("layout")), kProtocolVersion);
  for (const auto& [name, value] : values) {
    ASSERT_TRUE(table.contains(name)) << name;
    EXPECT_EQ(number_at(header, table.at(name)), value) << name;
  }
  size_t num_named = values.size() + 2;
  for (const auto& [name, field] : table) {
    num_named += name.starts_with("reserved") || field.type == "text";
  }
  EXPECT_EQ(table.size(), num_named) << "a field of the page is not checked";
}

uint64_t bits(double value) { return std::bit_cast<uint64_t>(value); }

/// Bytes that begin with this number.
std::array<std::byte, 32> beginning_with(uint64_t value) {
  std::array<std::byte, 32> bytes{};
  std::memcpy(bytes.data(), &value, sizeof(value));
  return bytes;
}

template <typename Message>
void expect_ranges(Message m) {
  m.ranges = {{LayerIdx(1), ExpertId(2), 3}, {LayerIdx(4), ExpertId(5), 6}};
  const uint32_t expected[] = {1, 2, 3, 4, 5, 6};
  const Bytes payload = encode_payload(m);
  ASSERT_EQ(payload.size(), sizeof(expected));
  EXPECT_EQ(std::memcmp(payload.data(), expected, sizeof(expected)), 0);
}

TEST(Wire, AssignmentsAndHoldingsAreAsDocumented) {
  expect_layout("2 AssignExperts", AssignExperts{11, 12, {{}, {}}},
                {{"assignment", 11}, {"bytes_per_second", 12}, {"num_ranges", 2}});
  expect_ranges(AssignExperts{});
  expect_layout(
      "14 Holdings", Holdings{1, 2, 3, true, {{}, {}, {}, {}}},
      {{"revision", 1}, {"assignment", 2}, {"bytes", 3}, {"num_ranges", 4}, {"complete", 1}});
  expect_ranges(Holdings{});
}

TEST(Wire, PlansAreAsDocumented) {
  const ExpertPlan plan{11, {{LayerIdx(1), ExpertId(2), 3, 1.0f, true}, {}}};
  expect_layout("15 ExpertPlan", plan, {{"now", 11}, {"num_experts", 2}});
  const Bytes payload = encode_payload(plan);
  const uint32_t expected[] = {1, 2, 3, std::bit_cast<uint32_t>(1.0f), 1};
  ASSERT_EQ(payload.size(), 2 * sizeof(expected));
  EXPECT_EQ(std::memcmp(payload.data(), expected, sizeof(expected)), 0);
}

TEST(Wire, TheHandshakeIsAsDocumented) {
  expect_layout("10 Challenge", Challenge{beginning_with(7)}, {{"nonce", 7}});
  Join join{beginning_with(1), beginning_with(2), 3, 4, 5, 6, {7.5, 8, 9, 10, "", true}, "", ""};
  expect_layout("11 Join", join,
                {{"nonce", 1},
                 {"proof", 2},
                 {"incarnation", 3},
                 {"model_fingerprint", 4},
                 {"weight_format", 5},
                 {"pid", 6},
                 {"rows_per_second", bits(7.5)},
                 {"memory_bytes", 8},
                 {"expert_bytes", 9},
                 {"threads", 10},
                 {"wants_plans", 1}});
  join.name = "n";
  join.host = "h";
  join.capacity.backend = "b";
  const Bytes header = encode_header(join);
  const size_t texts = read_tables().at("11 Join").at("name").offset;
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(&header[texts]), 9),
            std::string("\1\0n\1\0h\1\0b", 9));
  expect_layout("12 Welcome", Welcome{beginning_with(1), WorkerId(2)},
                {{"proof", 1}, {"worker", 2}});
  expect_layout("13 Refusal", Refusal{true, {ErrorCode::kUnavailable, ""}},
                {{"retry", 1}, {"code", 4}});
}

TEST(Wire, RequestsAndRepliesAreAsDocumented) {
  ExpertRequest m;
  m.request = RequestId(1);
  m.step = 2;
  m.placement_version = 3;
  m.budget_us = 4;
  m.layer = LayerIdx(5);
  m.num_rows = 6;
  m.cols = 7;
  m.row_bytes = 8;
  m.row_format = 2;
  m.separate = true;
  m.table = {{ExpertId(1)}, {2}, {3, 4}, {0.5f, 2.0f}};
  expect_layout("5 ExpertRequest", m,
                {{"request", 1},
                 {"step", 2},
                 {"placement_version", 3},
                 {"budget_us", 4},
                 {"layer", 5},
                 {"num_rows", 6},
                 {"cols", 7},
                 {"row_bytes", 8},
                 {"num_experts", 1},
                 {"num_entries", 2},
                 {"row_format", 2},
                 {"separate", 1}});
  Bytes table(row_data_offset(1, 2), std::byte{0xFF});
  ASSERT_EQ(table.size(), 64u);
  encode_table(m.table, table.data());
  uint32_t words[16];
  std::memcpy(words, table.data(), sizeof(words));
  EXPECT_EQ(std::vector<uint32_t>(words, words + 7),
            (std::vector<uint32_t>{1, 2, 3, 4, std::bit_cast<uint32_t>(0.5f),
                                   std::bit_cast<uint32_t>(2.0f), 0}));
  expect_layout("6 ExpertReply",
                ExpertReply{RequestId(1), 2, 3, 4, 5, fail(ErrorCode::kUnavailable, "")},
                {{"request", 1},
                 {"compute_ns", 2},
                 {"queue_ns", 3},
                 {"num_rows", 4},
                 {"cols", 5},
                 {"status", 4}});
}

TEST(Wire, TheRestIsAsDocumented) {
  expect_layout("7 Heartbeat", Heartbeat{1, 2, 3, 4, 5, true},
                {{"sequence", 1},
                 {"heard", 2},
                 {"assignment", 3},
                 {"revision", 4},
                 {"queue_depth", 5},
                 {"leaving", 1}});
  expect_layout("8 Error", ErrorMessage{{ErrorCode::kDataLoss, ""}}, {{"code", 3}});
  expect_layout("9 Goodbye", Goodbye{true}, {{"peers_lost", 1}});
}

TEST(Wire, HelloInfoIsAsDocumented) {
  const auto tables = read_tables();
  const Table& table = tables.at("Hello (2)");
  const Bytes info = encode_hello_info({Role::kWorker, 99, "h"});
  expect_gapless(table, info.size());
  EXPECT_EQ(number_at(info, table.at("role")), 1u);
  EXPECT_EQ(number_at(info, table.at("pid")), 99u);
  EXPECT_EQ(info[table.at("host").offset], std::byte{'h'});
}

TEST(Wire, ErrorCodesAreAsDocumented) {
  std::ifstream file(std::string(PREGATE_SOURCE_DIR) + "/protocol/WIRE.md");
  const std::regex row(R"(\| (\d+) \| ([a-z ]+) \|)");
  std::string line;
  int expected = 0;
  for (std::smatch match; std::getline(file, line);) {
    if (!std::regex_match(line, match, row)) continue;
    EXPECT_EQ(std::stoi(match[1]), expected);
    EXPECT_EQ(match[2].str(), to_string(ErrorCode(expected++)));
  }
  EXPECT_EQ(expected, static_cast<int>(ErrorCode::kInternal) + 1);
}

}  // namespace
}  // namespace pregate::protocol
