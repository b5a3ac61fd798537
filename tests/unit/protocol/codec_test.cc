#include "protocol/codec.h"

#include <cstring>

#include <gtest/gtest.h>

#include "base/random.h"

namespace pregate::protocol {
namespace {

ExpertRequest sample_request() {
  ExpertRequest request;
  request.request = RequestId(77);
  request.step = 5;
  request.placement_version = 3;
  request.budget_us = 1'000'000;
  request.layer = LayerIdx(9);
  request.num_rows = 3;
  request.cols = 4;
  request.row_bytes = 16;
  request.separate = true;
  request.table = {{ExpertId(2), ExpertId(5)}, {2, 1}, {0, 2, 1}, {0.5f, 0.25f, 1.0f}};
  return request;
}

Bytes payload_of(const ExpertRequest& request) {
  const size_t offset = row_data_offset(request.table.experts.size(), request.table.rows.size());
  Bytes payload(offset + request.num_rows * request.row_bytes);
  encode_table(request.table, payload.data());
  for (size_t i = offset; i < payload.size(); ++i) payload[i] = std::byte(i & 0xFF);
  return payload;
}

TEST(Codec, RequestsComeBackWhole) {
  const ExpertRequest request = sample_request();
  const Bytes payload = payload_of(request);
  const auto decoded = decode_expert_request(encode_header(request), payload);
  ASSERT_TRUE(decoded) << decoded.error().message;
  EXPECT_EQ(decoded->request, request.request);
  EXPECT_EQ(decoded->layer, request.layer);
  EXPECT_EQ(decoded->table.experts, request.table.experts);
  EXPECT_EQ(decoded->table.counts, request.table.counts);
  EXPECT_EQ(decoded->table.rows, request.table.rows);
  EXPECT_EQ(decoded->table.gates, request.table.gates);
  EXPECT_TRUE(decoded->separate);
  EXPECT_EQ(decoded->num_results(), 3u);
  EXPECT_EQ(decoded->row_data.size(), 48u);
  EXPECT_EQ(decoded->row_data.data(), payload.data() + kRowAlignment);
}

TEST(Codec, ARequestMayBeEmpty) {
  const ExpertRequest empty;
  EXPECT_EQ(row_data_offset(0, 0), 0u);
  encode_table(empty.table, nullptr);
  EXPECT_TRUE(decode_expert_request(encode_header(empty), {}));
}

TEST(Codec, BadTablesAreRefusedByName) {
  const auto error_of = [](void (*damage)(ExpertRequest&)) {
    ExpertRequest request = sample_request();
    damage(request);
    const auto decoded = decode_expert_request(encode_header(request), payload_of(request));
    return decoded ? std::string() : decoded.error().message;
  };
  using R = ExpertRequest;
  EXPECT_NE(error_of([](R& r) { r.table.experts[1] = ExpertId(2); }).find("ascend"),
            std::string::npos);
  EXPECT_NE(error_of([](R& r) { r.table.counts[0] = 3; }).find("add up"), std::string::npos);
  EXPECT_NE(error_of([](R& r) { r.table.rows[1] = 3; }).find("row index"), std::string::npos);
}

TEST(Codec, SizesThatOverflowAreRefused) {
  ExpertRequest request = sample_request();
  const Bytes payload = payload_of(request);
  request.num_rows = request.row_bytes = 0xFFFFFFFF;
  EXPECT_FALSE(decode_expert_request(encode_header(request), payload));
  ExpertReply reply;
  reply.num_rows = reply.cols = 0x80000000;  // x 4 bytes is 2^64
  EXPECT_FALSE(decode_expert_reply(encode_header(reply), {}));
  AssignExperts assign;
  assign.ranges = {{LayerIdx(0), ExpertId(0), 0xFFFFFFFF}};
  EXPECT_FALSE(decode_assign_experts(encode_header(assign), encode_payload(assign)));
}

TEST(Codec, RepliesCarryRowsOrAnError) {
  ExpertReply reply;
  reply.request = RequestId(8);
  reply.num_rows = 2;
  reply.cols = 3;
  const Bytes rows(24);
  const auto good = decode_expert_reply(encode_header(reply), rows);
  ASSERT_TRUE(good);
  EXPECT_TRUE(good->status);
  EXPECT_EQ(good->num_rows, 2u);
  EXPECT_FALSE(decode_expert_reply(encode_header(reply), Bytes(23)));

  reply.status = fail(ErrorCode::kDeadlineExceeded, "too late");
  const auto late = decode_expert_reply(encode_header(reply), {});
  ASSERT_TRUE(late);
  ASSERT_FALSE(late->status);
  EXPECT_EQ(late->status.error().code, ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(late->status.error().message, "too late");
  EXPECT_FALSE(decode_expert_reply(encode_header(reply), rows));

  reply.status = fail(ErrorCode::kUnknown, "new code");
  EXPECT_EQ(decode_expert_reply(encode_header(reply), {})->status.error().code,
            ErrorCode::kUnknown);
}

TEST(Codec, TextsAreCutToTheirLimit) {
  const ErrorMessage message{{ErrorCode::kDataLoss, std::string(5000, 'x')}};
  const Bytes header = encode_header(message);
  EXPECT_LE(header.size(), 1024u);
  EXPECT_EQ(decode_error(header)->error.message.size(), kMaxTextBytes);
}

TEST(Codec, EveryCutOrLongerHeaderIsRefused) {
  const Bytes header = encode_header(sample_request());
  const Bytes payload = payload_of(sample_request());
  for (size_t size = 0; size < header.size(); ++size) {
    EXPECT_FALSE(decode_expert_request(ByteView(header).first(size), payload));
  }
  Bytes longer = header;
  longer.push_back(std::byte{0});
  EXPECT_FALSE(decode_expert_request(longer, payload));
  EXPECT_FALSE(decode_heartbeat(header));
}

TEST(Codec, UnknownTypesAreNamed) {
  const Bytes header{std::byte{200}, std::byte{1}, std::byte{1}, std::byte{0}};
  const auto type = decode_type(header);
  ASSERT_FALSE(type);
  EXPECT_EQ(type.error().code, ErrorCode::kUnimplemented);
  EXPECT_NE(type.error().message.find("456"), std::string::npos);
}

TEST(Codec, HelloInfoFitsAndComesBack) {
  const Bytes bytes = encode_hello_info({Role::kCoordinator, 4711, std::string(100, 'h')});
  EXPECT_EQ(bytes.size(), 44u);
  const auto info = decode_hello_info(bytes);
  ASSERT_TRUE(info);
  EXPECT_EQ(info->role, Role::kCoordinator);
  EXPECT_EQ(info->pid, 4711u);
  EXPECT_EQ(info->host, std::string(kMaxHostBytes, 'h'));
  EXPECT_FALSE(decode_hello_info(ByteView(bytes).first(43)));
}

}  // namespace
}  // namespace pregate::protocol
