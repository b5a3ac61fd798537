// Any bytes as a message: the first two say where the header ends. What decodes must encode to the
// same bytes.
#include <cstdint>

#include "tests/fuzz/require.h"
#include "transport/hello.h"
#include "transport/mpi/frame.h"
#include "transport/nccl/note.h"

namespace {

using namespace pregate;
using namespace pregate::protocol;

void try_request(ByteView header, ByteView payload) {
  const auto request = decode_expert_request(header, payload);
  if (!request) return;
  require(same(encode_header(*request), header));
  Bytes table(row_data_offset(request->table.experts.size(), request->table.rows.size()));
  encode_table(request->table, table.data());
  const size_t used = request->table.experts.size() * 8 + request->table.rows.size() * 8;
  require(same(ByteView(table).first(used), payload.first(used)));
  const ByteView head = payload.first(payload.size() - request->row_data.size());
  require(decode_expert_request(header, head, request->row_data).has_value());
}

void try_messages(ByteView header, ByteView payload) {
  (void)decode_type(header);
  try_request(header, payload);
  if (const auto m = decode_assign_experts(header, payload)) {
    require(same(encode_header(*m), header) && same(encode_payload(*m), payload));
  }
  if (const auto m = decode_holdings(header, payload)) {
    require(same(encode_header(*m), header) && same(encode_payload(*m), payload));
  }
  if (const auto m = decode_expert_plan(header, payload)) {
    require(same(encode_header(*m), header) && same(encode_payload(*m), payload));
  }
  if (const auto m = decode_heartbeat(header)) require(same(encode_header(*m), header));
  if (const auto m = decode_goodbye(header)) require(same(encode_header(*m), header));
  if (const auto m = decode_challenge(header)) require(same(encode_header(*m), header));
  if (const auto m = decode_join(header)) require(same(encode_header(*m), header));
  if (const auto m = decode_welcome(header)) require(same(encode_header(*m), header));
  // A code of a newer peer becomes "unknown", so these need not come back as the same bytes.
  (void)decode_error(header);
  (void)decode_refusal(header);
  (void)decode_expert_reply(header, payload.size());
}

void try_first_bytes(ByteView bytes) {
  if (const auto hello = transport::decode_hello(bytes)) {
    require(transport::encode_hello(*hello).size() == bytes.size());
    (void)decode_hello_info(hello->info);
  }
  (void)decode_hello_info(bytes);
  const auto frame_bytes = transport::Payload::copy_of(bytes);
  const auto frame = transport::decode_frame(frame_bytes);
  if (frame) try_messages(frame->header, frame->payload.bytes());
  if (const auto note = transport::decode_note(frame_bytes)) {
    require(same(transport::encode_note(*note, note->rest.bytes(), note->header).bytes(), bytes));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const ByteView bytes = std::as_bytes(std::span(data, size));
  try_first_bytes(bytes);
  if (size < 2) return 0;
  const ByteView rest = bytes.subspan(2);
  const size_t header_bytes = std::min<size_t>(data[0] + 256u * data[1], rest.size());
  try_messages(rest.first(header_bytes), rest.subspan(header_bytes));
  return 0;
}
