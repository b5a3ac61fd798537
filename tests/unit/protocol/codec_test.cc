#include "protocol/codec.h"

#include <cmath>
#include <cstring>
#include <limits>

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

TEST(Codec, TheRowsOfARequestMayLieElsewhere) {
  const ExpertRequest request = sample_request();
  const Bytes payload = payload_of(request);
  const size_t table_bytes = payload.size() - 48;
  const auto table = ByteView(payload).first(table_bytes);
  const ByteView rows(reinterpret_cast<const std::byte*>(uintptr_t{0x1000}), 48);  // a device's
  const auto decoded = decode_expert_request(encode_header(request), table, rows);
  ASSERT_TRUE(decoded) << decoded.error().message;
  EXPECT_EQ(decoded->table.gates, request.table.gates);
  EXPECT_EQ(decoded->row_data.data(), rows.data());
  EXPECT_EQ(decoded->row_data.size(), rows.size());

  const Bytes header = encode_header(request);
  EXPECT_FALSE(decode_expert_request(header, table, rows.first(47)));
  EXPECT_FALSE(decode_expert_request(header, table.first(table_bytes - 1), rows));
  EXPECT_FALSE(decode_expert_request(header, payload, rows)) << "the rows are there twice";
  EXPECT_FALSE(decode_expert_request(header, table)) << "no rows at all";
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
  EXPECT_FALSE(decode_expert_reply(encode_header(reply), 0));
}

std::string error_of(const std::vector<ExpertRange>& ranges) {
  const AssignExperts assign{1, 0, ranges};
  const auto a = decode_assign_experts(encode_header(assign), encode_payload(assign));
  const Holdings holdings{1, 1, 0, false, ranges};
  const auto h = decode_holdings(encode_header(holdings), encode_payload(holdings));
  EXPECT_EQ(a.has_value(), h.has_value());
  return a ? "" : a.error().message;
}

TEST(Codec, AssignmentsAndHoldingsComeBackWhole) {
  const std::vector<ExpertRange> ranges{{LayerIdx(1), ExpertId(2), 3},
                                        {LayerIdx(0), ExpertId(9), 1}};
  const AssignExperts assign{4, 5, ranges};
  const auto a = decode_assign_experts(encode_header(assign), encode_payload(assign));
  ASSERT_TRUE(a) << a.error().message;
  EXPECT_EQ(a->assignment, 4u);
  EXPECT_EQ(a->bytes_per_second, 5u);
  EXPECT_EQ(a->ranges, ranges);
  const Holdings holdings{6, 4, 7, true, ranges};
  const auto h = decode_holdings(encode_header(holdings), encode_payload(holdings));
  ASSERT_TRUE(h) << h.error().message;
  EXPECT_EQ(h->revision, 6u);
  EXPECT_EQ(h->assignment, 4u);
  EXPECT_EQ(h->bytes, 7u);
  EXPECT_TRUE(h->complete);
  EXPECT_EQ(h->ranges, ranges);
  EXPECT_FALSE(decode_holdings(encode_header(holdings), encode_payload(AssignExperts{})));
}

TEST(Codec, PlansComeBackWhole) {
  const ExpertPlan plan{
      7, {{LayerIdx(1), ExpertId(2), 3, 0.25f, false}, {LayerIdx(4), ExpertId(5), 0, 1.0f, true}}};
  const auto decoded = decode_expert_plan(encode_header(plan), encode_payload(plan));
  ASSERT_TRUE(decoded) << decoded.error().message;
  EXPECT_EQ(decoded->now, 7u);
  ASSERT_EQ(decoded->experts.size(), 2u);
  EXPECT_EQ(decoded->experts[0].layer, LayerIdx(1));
  EXPECT_EQ(decoded->experts[0].expert, ExpertId(2));
  EXPECT_EQ(decoded->experts[0].ahead, 3u);
  EXPECT_EQ(decoded->experts[0].likelihood, 0.25f);
  EXPECT_FALSE(decoded->experts[0].certain);
  EXPECT_TRUE(decoded->experts[1].certain);
}

TEST(Codec, PlansThatCannotBeAreRefused) {
  const auto error_of = [](const ExpertPlan& plan, const Bytes& payload) {
    const auto decoded = decode_expert_plan(encode_header(plan), payload);
    return decoded ? "" : decoded.error().message;
  };
  ExpertPlan plan{7, {{LayerIdx(1), ExpertId(2), 3, 0.25f, false}}};
  EXPECT_NE(error_of(plan, {}).find("size of its experts"), std::string::npos);
  for (const float wrong : {-0.1f, 1.1f, std::numeric_limits<float>::quiet_NaN()}) {
    plan.experts.front().likelihood = wrong;
    EXPECT_NE(error_of(plan, encode_payload(plan)).find("likelihood"), std::string::npos) << wrong;
  }
  plan.experts.assign(kMaxPlannedExperts + 1, {});
  EXPECT_NE(error_of(plan, encode_payload(plan)).find("too many"), std::string::npos);
}

TEST(Codec, RangesThatCannotBeAreRefused) {
  EXPECT_EQ(error_of({}), "");
  EXPECT_EQ(error_of({{LayerIdx(0), ExpertId(0), kMaxAssignedExperts}}), "");
  const ExpertRange half{LayerIdx(0), ExpertId(0), kMaxAssignedExperts / 2};
  EXPECT_NE(error_of({half, half, half}).find("too many"), std::string::npos);
  EXPECT_NE(error_of({{LayerIdx(0), ExpertId(0), 0xFFFFFFFF}}).find("too many"), std::string::npos);
  EXPECT_NE(error_of({{LayerIdx(0), ExpertId(0), 0}}).find("empty"), std::string::npos);
  EXPECT_NE(error_of({{LayerIdx(0), ExpertId(0xFFFFFFFF), 2}}).find("wraps"), std::string::npos);
}

Join sample_join() {
  Join join;
  join.nonce.fill(std::byte{1});
  join.proof.fill(std::byte{2});
  join.incarnation = 3;
  join.model_fingerprint = 4;
  join.weight_format = 2;
  join.pid = 5;
  join.capacity = {6.5, 7, 8, 9, "cpu"};
  join.name = "worker-1.rack_2";
  join.host = "host";
  return join;
}

TEST(Codec, JoinsComeBackWhole) {
  const Join join = sample_join();
  const auto decoded = decode_join(encode_header(join));
  ASSERT_TRUE(decoded) << decoded.error().message;
  EXPECT_EQ(decoded->nonce, join.nonce);
  EXPECT_EQ(decoded->proof, join.proof);
  EXPECT_EQ(decoded->incarnation, 3u);
  EXPECT_EQ(decoded->model_fingerprint, 4u);
  EXPECT_EQ(decoded->weight_format, 2u);
  EXPECT_EQ(decoded->pid, 5u);
  EXPECT_EQ(decoded->capacity.rows_per_second, 6.5);
  EXPECT_EQ(decoded->capacity.memory_bytes, 7u);
  EXPECT_EQ(decoded->capacity.expert_bytes, 8u);
  EXPECT_EQ(decoded->capacity.threads, 9u);
  EXPECT_EQ(decoded->capacity.backend, "cpu");
  EXPECT_EQ(decoded->name, "worker-1.rack_2");
  EXPECT_EQ(decoded->host, "host");
}

TEST(Codec, TheLongestJoinFitsIntoAHeader) {
  Join join = sample_join();
  join.name = join.host = join.capacity.backend = std::string(5000, 'n');
  const Bytes header = encode_header(join);
  EXPECT_LE(header.size(), 1024u);
  EXPECT_EQ(decode_join(header)->host.size(), kMaxNameBytes);
}

TEST(Codec, JoinsThatCannotBeAreRefused) {
  for (const char* name : {"", "a b", "a\n", "a/b", "\xC3\xA4", "a:1"}) {
    Join join = sample_join();
    join.name = name;
    EXPECT_FALSE(decode_join(encode_header(join))) << name;
  }
  EXPECT_FALSE(is_worker_name(std::string(kMaxNameBytes + 1, 'n')));
  for (const double speed : {-1.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
    Join join = sample_join();
    join.capacity.rows_per_second = speed;
    const auto decoded = decode_join(encode_header(join));
    ASSERT_FALSE(decoded);
    EXPECT_EQ(decoded.error().code, ErrorCode::kDataLoss);
    EXPECT_NE(decoded.error().message.find("rows_per_second"), std::string::npos);
  }
}

TEST(Codec, AnswersToAJoinComeBackWhole) {
  Challenge challenge;
  challenge.nonce.fill(std::byte{1});
  EXPECT_EQ(decode_challenge(encode_header(challenge))->nonce, challenge.nonce);
  Welcome welcome;
  welcome.proof.fill(std::byte{2});
  welcome.worker = WorkerId(3);
  const auto in = decode_welcome(encode_header(welcome));
  ASSERT_TRUE(in);
  EXPECT_EQ(in->proof, welcome.proof);
  EXPECT_EQ(in->worker, WorkerId(3));
  const Refusal refusal{true, {ErrorCode::kUnavailable, "the name is taken"}};
  const auto out = decode_refusal(encode_header(refusal));
  ASSERT_TRUE(out);
  EXPECT_TRUE(out->retry);
  EXPECT_EQ(out->error.code, ErrorCode::kUnavailable);
  EXPECT_EQ(out->error.message, "the name is taken");
}

TEST(Codec, RepliesCarryRowsOrAnError) {
  ExpertReply reply;
  reply.request = RequestId(8);
  reply.num_rows = 2;
  reply.cols = 3;
  const Bytes rows(24);
  const auto good = decode_expert_reply(encode_header(reply), rows.size());
  ASSERT_TRUE(good);
  EXPECT_TRUE(good->status);
  EXPECT_EQ(good->num_rows, 2u);
  EXPECT_FALSE(decode_expert_reply(encode_header(reply), 23));

  reply.status = fail(ErrorCode::kDeadlineExceeded, "too late");
  const auto late = decode_expert_reply(encode_header(reply), 0);
  ASSERT_TRUE(late);
  ASSERT_FALSE(late->status);
  EXPECT_EQ(late->status.error().code, ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(late->status.error().message, "too late");
  EXPECT_FALSE(decode_expert_reply(encode_header(reply), rows.size()));

  reply.status = fail(ErrorCode::kUnknown, "new code");
  EXPECT_EQ(decode_expert_reply(encode_header(reply), 0)->status.error().code, ErrorCode::kUnknown);
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

TEST(Codec, TypesOfVersionOneAreUnknown) {
  for (const uint8_t number : {0, 1, 3, 4, 16}) {
    EXPECT_FALSE(decode_type(Bytes{std::byte{number}, std::byte{0}})) << int{number};
  }
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
