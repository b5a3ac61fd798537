// Messages to bytes and back. Decoding takes any bytes without harm: an error is kDataLoss and
// names message and field. What decodes, encodes to the same bytes.
#pragma once

#include "protocol/messages.h"

namespace pregate::protocol {

using Bytes = std::vector<std::byte>;
using ByteView = std::span<const std::byte>;

Bytes encode_header(const AssignExperts& message);
Bytes encode_header(const ExpertRequest& message);
Bytes encode_header(const ExpertReply& message);
Bytes encode_header(const Heartbeat& message);
Bytes encode_header(const ErrorMessage& message);
Bytes encode_header(const Goodbye& message);
Bytes encode_header(const Challenge& message);
Bytes encode_header(const Join& message);
Bytes encode_header(const Welcome& message);
Bytes encode_header(const Refusal& message);
Bytes encode_header(const Holdings& message);
Bytes encode_header(const ExpertPlan& message);

/// kUnimplemented for a type that this version does not know.
Result<MessageType> decode_type(ByteView header);

Result<Heartbeat> decode_heartbeat(ByteView header);
Result<ErrorMessage> decode_error(ByteView header);
Result<Goodbye> decode_goodbye(ByteView header);
Result<Challenge> decode_challenge(ByteView header);
/// Refuses a name that is_worker_name() does, and a speed that is none.
Result<Join> decode_join(ByteView header);
Result<Welcome> decode_welcome(ByteView header);
Result<Refusal> decode_refusal(ByteView header);

/// 1 to kMaxNameBytes letters, digits, '.', '_' and '-': it stands in logs, metrics and URLs.
bool is_worker_name(std::string_view name);

/// The payload of these two: their ranges, of which none is empty.
Bytes encode_payload(const AssignExperts& message);
Result<AssignExperts> decode_assign_experts(ByteView header, ByteView payload);
Bytes encode_payload(const Holdings& message);
Result<Holdings> decode_holdings(ByteView header, ByteView payload);

/// At most kMaxPlannedExperts, and likelihoods are such.
Bytes encode_payload(const ExpertPlan& message);
Result<ExpertPlan> decode_expert_plan(ByteView header, ByteView payload);

/// The payload of a request is its table and, from row_data_offset() on, the encoded rows.
size_t row_data_offset(size_t num_experts, size_t num_entries);
/// Writes row_data_offset() bytes.
void encode_table(const ExpertTable& table, std::byte* out);
/// Checks the table against the rows; `row_data` points into the payload. That may come in two
/// pieces: then `rows`, which are not read, are exactly its rows.
Result<ExpertRequest> decode_expert_request(ByteView header, ByteView payload, ByteView rows = {});

/// Checks that the payload has the size that the header announces.
Result<ExpertReply> decode_expert_reply(ByteView header, size_t payload_bytes);

/// At most 44 bytes, for the transport's hello.
Bytes encode_hello_info(const HelloInfo& info);
Result<HelloInfo> decode_hello_info(ByteView bytes);

}  // namespace pregate::protocol
