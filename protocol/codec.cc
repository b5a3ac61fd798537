#include "protocol/codec.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "protocol/archive.h"

namespace pregate::protocol {
namespace {

constexpr uint16_t kLayoutVersion = kProtocolVersion;

template <typename T, typename M>
concept Like = std::is_same_v<std::remove_const_t<T>, M>;

// One field list per message, in the order of WIRE.md.

void fields(auto& field, Like<AssignExperts> auto& m, auto& num_ranges) {
  field("assignment", m.assignment);
  field("bytes_per_second", m.bytes_per_second);
  field("num_ranges", num_ranges);
}

struct TableSize {
  uint32_t num_experts = 0;
  uint32_t num_entries = 0;
};

void fields(auto& field, Like<ExpertRequest> auto& m, Like<TableSize> auto& table) {
  field("request", m.request);
  field("step", m.step);
  field("placement_version", m.placement_version);
  field("budget_us", m.budget_us);
  field("layer", m.layer);
  field("num_rows", m.num_rows);
  field("cols", m.cols);
  field("row_bytes", m.row_bytes);
  field("num_experts", table.num_experts);
  field("num_entries", table.num_entries);
  field("row_format", m.row_format);
  field("separate", m.separate);
  field.zeros("reserved", 2);
}

/// A Status on the wire: 0 and no text, or a code other than 0 (an unknown one becomes 255).
struct StatusWire {
  uint8_t code = 0;
  std::string text;
};
constexpr uint8_t kUnknownCode = 255;

void fields(auto& field, Like<ExpertReply> auto& m, Like<StatusWire> auto& status) {
  field("request", m.request);
  field("compute_ns", m.compute_ns);
  field("queue_ns", m.queue_ns);
  field("num_rows", m.num_rows);
  field("cols", m.cols);
  field("status", status.code);
  field.zeros("reserved", 1);
  field("text", status.text);
}

void fields(auto& field, Like<Heartbeat> auto& m) {
  field("sequence", m.sequence);
  field("heard", m.heard);
  field("assignment", m.assignment);
  field("revision", m.revision);
  field("queue_depth", m.queue_depth);
  field("leaving", m.leaving);
}

void fields(auto& field, Like<ErrorMessage> auto& m) {
  field("code", m.error.code);
  field.zeros("reserved", 1);
  field("text", m.error.message);
}

void fields(auto& field, Like<Goodbye> auto& m) { field("peers_lost", m.peers_lost); }

void fields(auto& field, Like<Challenge> auto& m) { field("nonce", m.nonce); }

void fields(auto& field, Like<Join> auto& m) {
  field("nonce", m.nonce);
  field("proof", m.proof);
  field("incarnation", m.incarnation);
  field("model_fingerprint", m.model_fingerprint);
  field("pid", m.pid);
  field("weight_format", m.weight_format);
  field("wants_plans", m.capacity.wants_plans);
  field.zeros("reserved", 2);
  field("rows_per_second", m.capacity.rows_per_second);
  field("memory_bytes", m.capacity.memory_bytes);
  field("expert_bytes", m.capacity.expert_bytes);
  field("threads", m.capacity.threads);
  field.name("name", m.name);
  field.name("host", m.host);
  field.name("backend", m.capacity.backend);
}

void fields(auto& field, Like<Welcome> auto& m) {
  field("proof", m.proof);
  field("worker", m.worker);
}

void fields(auto& field, Like<Refusal> auto& m) {
  field("retry", m.retry);
  field("code", m.error.code);
  field("text", m.error.message);
}

void fields(auto& field, Like<Holdings> auto& m, auto& num_ranges) {
  field("revision", m.revision);
  field("assignment", m.assignment);
  field("bytes", m.bytes);
  field("num_ranges", num_ranges);
  field("complete", m.complete);
  field.zeros("reserved", 3);
}

void fields(auto& field, Like<ExpertPlan> auto& m, auto& num_experts) {
  field("now", m.now);
  field("num_experts", num_experts);
}

void fields(auto& field, Like<PlannedExpert> auto& m) {
  field("layer", m.layer);
  field("expert", m.expert);
  field("ahead", m.ahead);
  field("likelihood", m.likelihood);
  field("certain", m.certain);
  field.zeros("reserved", 3);
}

template <typename... Parts>
Bytes encode(MessageType type, const Parts&... parts) {
  Bytes out;
  Encoder encoder(out);
  encoder("type", static_cast<uint16_t>(type));
  encoder("layout", kLayoutVersion);
  fields(encoder, parts...);
  return out;
}

tl::unexpected<Error> damaged(const char* message, std::string_view what) {
  return fail(ErrorCode::kDataLoss, "damaged {} message: {}", message, what);
}

/// Reads a whole header into `parts`.
template <typename... Parts>
Status decode(const char* name, MessageType type, ByteView header, Parts&... parts) {
  Decoder decoder(header);
  uint16_t type_number = 0;
  uint16_t layout = 0;
  decoder("type", type_number);
  decoder("layout", layout);
  if (type_number != static_cast<uint16_t>(type)) decoder.reject("type", "is another one");
  if (layout != kLayoutVersion) decoder.reject("layout", "is not known");
  fields(decoder, parts...);
  if (decoder.num_left() > 0) decoder.reject("header", "is longer than its fields");
  if (decoder.failed()) return damaged(name, decoder.error());
  return {};
}

/// Copies numbers out of a payload, where they need not be aligned.
template <typename T>
std::vector<T> read_array(ByteView& in, size_t count) {
  std::vector<T> values(count);
  if (count > 0) std::memcpy(values.data(), in.data(), count * sizeof(T));
  in = in.subspan(count * sizeof(T));
  return values;
}

template <typename T>
std::byte* write_array(const std::vector<T>& values, std::byte* out) {
  if (!values.empty()) std::memcpy(out, values.data(), values.size() * sizeof(T));
  return out + values.size() * sizeof(T);
}

size_t table_bytes(size_t num_experts, size_t num_entries) {
  return num_experts * 2 * sizeof(uint32_t) + num_entries * (sizeof(uint32_t) + sizeof(float));
}

bool is_known(MessageType type) {
  switch (type) {
    case MessageType::kAssignExperts:
    case MessageType::kExpertRequest:
    case MessageType::kExpertReply:
    case MessageType::kHeartbeat:
    case MessageType::kError:
    case MessageType::kGoodbye:
    case MessageType::kChallenge:
    case MessageType::kJoin:
    case MessageType::kWelcome:
    case MessageType::kRefusal:
    case MessageType::kHoldings:
    case MessageType::kExpertPlan:
      return true;
  }
  return false;
}

Status check_join(const Join& join) {
  constexpr auto kName = "Join";
  const double speed = join.capacity.rows_per_second;
  if (!is_worker_name(join.name)) return damaged(kName, "name is none a worker can have");
  if (!std::isfinite(speed) || speed < 0) return damaged(kName, "rows_per_second is no speed");
  return {};
}

constexpr size_t kRangeBytes = 3 * sizeof(uint32_t);

Bytes encode_ranges(const std::vector<ExpertRange>& ranges) {
  Bytes out;
  out.reserve(ranges.size() * kRangeBytes);
  Encoder encoder(out);
  for (const ExpertRange& range : ranges) {
    encoder("layer", range.layer);
    encoder("first", range.first);
    encoder("count", range.count);
  }
  return out;
}

/// Bounded: no range is empty, and together they have at most kMaxAssignedExperts.
Result<std::vector<ExpertRange>> decode_ranges(const char* name, uint32_t num_ranges,
                                               ByteView payload) {
  if (payload.size() != num_ranges * kRangeBytes) {
    return damaged(name, "payload does not have the size of its ranges");
  }
  if (num_ranges > kMaxAssignedExperts) return damaged(name, "too many ranges");
  Decoder decoder(payload);
  uint64_t num_experts = 0;
  std::vector<ExpertRange> ranges(num_ranges);
  for (ExpertRange& range : ranges) {
    decoder("layer", range.layer);
    decoder("first", range.first);
    decoder("count", range.count);
    num_experts += range.count;
    if (range.count == 0) return damaged(name, "a range is empty");
    if (num_experts > kMaxAssignedExperts) return damaged(name, "too many experts");
    if (range.first.value + range.count < range.count) return damaged(name, "a range wraps");
  }
  return ranges;
}

template <typename Message>
Bytes encode_with_ranges(MessageType type, const Message& message) {
  return encode(type, message, static_cast<uint32_t>(message.ranges.size()));
}

template <typename Message>
Result<Message> decode_with_ranges(const char* name, MessageType type, ByteView header,
                                   ByteView payload) {
  Message message;
  uint32_t num_ranges = 0;
  PREGATE_TRY(decode(name, type, header, message, num_ranges));
  PREGATE_ASSIGN(message.ranges, decode_ranges(name, num_ranges, payload));
  return message;
}

constexpr size_t kPlannedExpertBytes = 5 * sizeof(uint32_t);

/// Of one that is all in its header.
template <typename Message>
Result<Message> decode_plain(const char* name, MessageType type, ByteView header) {
  Message message;
  PREGATE_TRY(decode(name, type, header, message));
  return message;
}

static_assert(sizeof(ExpertId) == sizeof(uint32_t));

Status check_table(const ExpertRequest& request) {
  constexpr auto kName = "ExpertRequest";
  const ExpertTable& table = request.table;
  if (std::adjacent_find(table.experts.begin(), table.experts.end(), std::greater_equal()) !=
      table.experts.end()) {
    return damaged(kName, "experts do not ascend");
  }
  uint64_t sum = 0;
  for (const uint32_t count : table.counts) sum += count;
  if (sum != table.rows.size()) return damaged(kName, "counts do not add up to the entries");
  const auto is_outside = [&](uint32_t row) { return row >= request.num_rows; };
  if (std::any_of(table.rows.begin(), table.rows.end(), is_outside)) {
    return damaged(kName, "a row index is out of range");
  }
  return {};
}

}  // namespace

Bytes encode_header(const AssignExperts& m) {
  return encode_with_ranges(MessageType::kAssignExperts, m);
}
Bytes encode_header(const Holdings& m) { return encode_with_ranges(MessageType::kHoldings, m); }
Bytes encode_header(const Heartbeat& m) { return encode(MessageType::kHeartbeat, m); }
Bytes encode_header(const ErrorMessage& m) { return encode(MessageType::kError, m); }
Bytes encode_header(const Goodbye& m) { return encode(MessageType::kGoodbye, m); }
Bytes encode_header(const Challenge& m) { return encode(MessageType::kChallenge, m); }
Bytes encode_header(const Join& m) { return encode(MessageType::kJoin, m); }
Bytes encode_header(const Welcome& m) { return encode(MessageType::kWelcome, m); }
Bytes encode_header(const Refusal& m) { return encode(MessageType::kRefusal, m); }

Bytes encode_header(const ExpertPlan& m) {
  return encode(MessageType::kExpertPlan, m, static_cast<uint32_t>(m.experts.size()));
}

Bytes encode_header(const ExpertRequest& m) {
  const TableSize size{static_cast<uint32_t>(m.table.experts.size()),
                       static_cast<uint32_t>(m.table.rows.size())};
  return encode(MessageType::kExpertRequest, m, size);
}

Bytes encode_header(const ExpertReply& m) {
  StatusWire status;
  if (!m.status) {
    const auto code = static_cast<uint8_t>(m.status.error().code);
    status = {code == 0 ? kUnknownCode : code, m.status.error().message};
  }
  return encode(MessageType::kExpertReply, m, status);
}

Result<MessageType> decode_type(ByteView header) {
  Decoder decoder(header);
  uint16_t type = 0;
  decoder("type", type);
  if (decoder.failed()) return damaged("header of a", decoder.error());
  if (!is_known(MessageType(type))) {
    return fail(ErrorCode::kUnimplemented, "message of unknown type {}", type);
  }
  return MessageType(type);
}

Result<Heartbeat> decode_heartbeat(ByteView header) {
  return decode_plain<Heartbeat>("Heartbeat", MessageType::kHeartbeat, header);
}

Result<ErrorMessage> decode_error(ByteView header) {
  return decode_plain<ErrorMessage>("Error", MessageType::kError, header);
}

Result<Goodbye> decode_goodbye(ByteView header) {
  return decode_plain<Goodbye>("Goodbye", MessageType::kGoodbye, header);
}

Result<Challenge> decode_challenge(ByteView header) {
  return decode_plain<Challenge>("Challenge", MessageType::kChallenge, header);
}

bool is_worker_name(std::string_view name) {
  const auto is_good = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' ||
           c == '_' || c == '-';
  };
  return !name.empty() && name.size() <= kMaxNameBytes &&
         std::all_of(name.begin(), name.end(), is_good);
}

Result<Join> decode_join(ByteView header) {
  Join m;
  PREGATE_TRY(decode("Join", MessageType::kJoin, header, m));
  PREGATE_TRY(check_join(m));
  return m;
}

Result<Welcome> decode_welcome(ByteView header) {
  return decode_plain<Welcome>("Welcome", MessageType::kWelcome, header);
}

Result<Refusal> decode_refusal(ByteView header) {
  return decode_plain<Refusal>("Refusal", MessageType::kRefusal, header);
}

Bytes encode_payload(const AssignExperts& message) { return encode_ranges(message.ranges); }
Bytes encode_payload(const Holdings& message) { return encode_ranges(message.ranges); }

Result<AssignExperts> decode_assign_experts(ByteView header, ByteView payload) {
  return decode_with_ranges<AssignExperts>("AssignExperts", MessageType::kAssignExperts, header,
                                           payload);
}

Result<Holdings> decode_holdings(ByteView header, ByteView payload) {
  return decode_with_ranges<Holdings>("Holdings", MessageType::kHoldings, header, payload);
}

Bytes encode_payload(const ExpertPlan& message) {
  Bytes out;
  out.reserve(message.experts.size() * kPlannedExpertBytes);
  Encoder encoder(out);
  for (const PlannedExpert& planned : message.experts) fields(encoder, planned);
  return out;
}

Result<ExpertPlan> decode_expert_plan(ByteView header, ByteView payload) {
  constexpr auto kName = "ExpertPlan";
  ExpertPlan m;
  uint32_t num_experts = 0;
  PREGATE_TRY(decode(kName, MessageType::kExpertPlan, header, m, num_experts));
  if (payload.size() != num_experts * kPlannedExpertBytes) {
    return damaged(kName, "payload does not have the size of its experts");
  }
  if (num_experts > kMaxPlannedExperts) return damaged(kName, "too many experts");
  Decoder decoder(payload);
  m.experts.resize(num_experts);
  for (PlannedExpert& planned : m.experts) {
    fields(decoder, planned);
    if (decoder.failed()) return damaged(kName, decoder.error());
    if (!(planned.likelihood >= 0 && planned.likelihood <= 1)) {
      return damaged(kName, "a likelihood is none");
    }
  }
  return m;
}

size_t row_data_offset(size_t num_experts, size_t num_entries) {
  const size_t end = table_bytes(num_experts, num_entries);
  return (end + kRowAlignment - 1) / kRowAlignment * kRowAlignment;
}

void encode_table(const ExpertTable& table, std::byte* out) {
  PREGATE_CHECK(table.experts.size() == table.counts.size());
  PREGATE_CHECK(table.rows.size() == table.gates.size());
  out = write_array(table.experts, out);
  out = write_array(table.counts, out);
  out = write_array(table.rows, out);
  out = write_array(table.gates, out);
  const size_t num_experts = table.experts.size();
  const size_t num_entries = table.rows.size();
  const size_t padding =
      row_data_offset(num_experts, num_entries) - table_bytes(num_experts, num_entries);
  if (padding > 0) std::memset(out, 0, padding);
}

Result<ExpertRequest> decode_expert_request(ByteView header, ByteView payload, ByteView rows) {
  constexpr auto kName = "ExpertRequest";
  ExpertRequest m;
  TableSize size;
  PREGATE_TRY(decode(kName, MessageType::kExpertRequest, header, m, size));
  // No overflow: sums and products of u32 in 64 bits.
  const size_t rows_at = row_data_offset(size.num_experts, size.num_entries);
  const size_t row_data_bytes = size_t{m.num_rows} * m.row_bytes;
  const bool is_cut = !rows.empty();
  if (payload.size() < rows_at || payload.size() - rows_at != (is_cut ? 0 : row_data_bytes)) {
    return damaged(kName, "payload does not have the size of its table and rows");
  }
  if (is_cut && rows.size() != row_data_bytes) {
    return damaged(kName, "the rows do not have the size that is announced");
  }
  ByteView in = payload;
  m.table.experts = read_array<ExpertId>(in, size.num_experts);
  m.table.counts = read_array<uint32_t>(in, size.num_experts);
  m.table.rows = read_array<uint32_t>(in, size.num_entries);
  m.table.gates = read_array<float>(in, size.num_entries);
  m.row_data = is_cut ? rows : payload.subspan(rows_at);
  PREGATE_TRY(check_table(m));
  return m;
}

Result<ExpertReply> decode_expert_reply(ByteView header, size_t payload_bytes) {
  constexpr auto kName = "ExpertReply";
  ExpertReply m;
  StatusWire status;
  PREGATE_TRY(decode(kName, MessageType::kExpertReply, header, m, status));
  if (status.code != 0) {
    const bool known = status.code <= static_cast<uint8_t>(ErrorCode::kInternal);
    m.status = fail({known ? ErrorCode(status.code) : ErrorCode::kUnknown, status.text});
  } else if (!status.text.empty()) {
    return damaged(kName, "a text without an error");
  }
  const size_t expected = m.status ? size_t{m.num_rows} * m.cols : 0;
  // Compared in numbers of f32: rows x cols x 4 could overflow.
  if (payload_bytes % sizeof(float) != 0 || payload_bytes / sizeof(float) != expected) {
    return damaged(kName, "payload does not have the size of its rows");
  }
  return m;
}

Bytes encode_hello_info(const HelloInfo& info) {
  std::string host = info.host;
  host.resize(kMaxHostBytes, '\0');
  Bytes out;
  Encoder encoder(out);
  encoder("role", static_cast<uint8_t>(info.role));
  encoder.zeros("reserved", 3);
  encoder("pid", info.pid);
  for (const char c : host) encoder("host", c);
  return out;
}

Result<HelloInfo> decode_hello_info(ByteView bytes) {
  HelloInfo info;
  uint8_t role = 0;
  Decoder decoder(bytes);
  decoder("role", role);
  if (role > static_cast<uint8_t>(Role::kWorker)) decoder.reject("role", "is not known");
  decoder.zeros("reserved", 3);
  decoder("pid", info.pid);
  std::string host(kMaxHostBytes, '\0');
  for (char& c : host) decoder("host", c);
  if (decoder.num_left() > 0) decoder.reject("info", "is longer than its fields");
  if (decoder.failed()) return damaged("Hello", decoder.error());
  info.role = Role(role);
  info.host = host.substr(0, host.find('\0'));
  return info;
}

}  // namespace pregate::protocol
