#include "bench/transport/raw_ucx.h"

#include <cstring>

#include <poll.h>

#include "base/check.h"

namespace pregate::transport {
namespace {

/// As the transport waits: who only polls takes the other end's core where cores are few.
constexpr int kSpins = 200;
/// How soon the end of a round is seen.
constexpr int kMaxWaitMs = 10;

}  // namespace

RawUcx::RawUcx(size_t buffer_bytes) : out_(buffer_bytes), in_(buffer_bytes) {
  ucp_config_t* config = nullptr;
  PREGATE_CHECK(ucp_config_read(nullptr, nullptr, &config) == UCS_OK);
  ucp_config_modify(config, "TLS", "tcp,self");
  ucp_config_modify(config, "NET_DEVICES", "lo");
  ucp_params_t params{};
  params.field_mask = UCP_PARAM_FIELD_FEATURES;
  params.features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP;
  PREGATE_CHECK(ucp_init(&params, config, &context_) == UCS_OK);
  ucp_config_release(config);
  ucp_worker_params_t worker_params{};
  worker_params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
  worker_params.thread_mode = UCS_THREAD_MODE_SERIALIZED;
  PREGATE_CHECK(ucp_worker_create(context_, &worker_params, &worker_) == UCS_OK);
  PREGATE_CHECK(ucp_worker_get_efd(worker_, &event_fd_) == UCS_OK);
  size_t address_bytes = 0;
  PREGATE_CHECK(ucp_worker_get_address(worker_, &address_, &address_bytes) == UCS_OK);
  ucp_am_handler_param_t handler{};
  handler.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_FLAGS |
                       UCP_AM_HANDLER_PARAM_FIELD_CB | UCP_AM_HANDLER_PARAM_FIELD_ARG;
  handler.id = 1;
  handler.flags = UCP_AM_FLAG_WHOLE_MSG;
  handler.cb = &RawUcx::on_message;
  handler.arg = this;
  PREGATE_CHECK(ucp_worker_set_am_recv_handler(worker_, &handler) == UCS_OK);
}

RawUcx::~RawUcx() {
  ucp_worker_release_address(worker_, address_);
  ucp_worker_destroy(worker_);
  ucp_cleanup(context_);
}

void RawUcx::connect_to(const RawUcx& other) {
  ucp_ep_params_t params{};
  params.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE;
  params.address = other.address_;
  params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
  PREGATE_CHECK(ucp_ep_create(worker_, &params, &endpoint_) == UCS_OK);
}

void RawUcx::send(size_t bytes) {
  ucp_request_param_t params{};
  params.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  params.cb.send = &RawUcx::on_sent;
  params.user_data = this;
  // The last message's buffer is this one's.
  while (sending_) ucp_worker_progress(worker_);
  const ucs_status_ptr_t request =
      ucp_am_send_nbx(endpoint_, 1, nullptr, 0, out_.data(), bytes, &params);
  PREGATE_CHECK(!UCS_PTR_IS_ERR(request));
  sending_ = request != nullptr;
}

bool RawUcx::receive(const std::atomic<bool>& active) {
  for (int turn = 0; num_arrived_ == 0 && active.load(std::memory_order_relaxed); ++turn) {
    if (ucp_worker_progress(worker_) != 0) turn = 0;
    if (turn > kSpins) wait();
  }
  if (num_arrived_ == 0) return false;
  --num_arrived_;
  return true;
}

void RawUcx::wait() {
  if (ucp_worker_arm(worker_) != UCS_OK) return;
  pollfd readable{event_fd_, POLLIN, 0};
  ::poll(&readable, 1, kMaxWaitMs);
}

ucs_status_t RawUcx::on_message(void* user_data, const void*, size_t, void* data, size_t data_bytes,
                                const ucp_am_recv_param_t* param) {
  auto& self = *static_cast<RawUcx*>(user_data);
  if ((param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) == 0) {
    std::memcpy(self.in_.data(), data, data_bytes);
    ++self.num_arrived_;
    return UCS_OK;
  }
  ucp_request_param_t params{};
  params.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  params.cb.recv_am = &RawUcx::on_received;
  params.user_data = &self;
  const ucs_status_ptr_t request =
      ucp_am_recv_data_nbx(self.worker_, data, self.in_.data(), data_bytes, &params);
  PREGATE_CHECK(!UCS_PTR_IS_ERR(request));
  if (request == nullptr) ++self.num_arrived_;
  return UCS_INPROGRESS;
}

void RawUcx::on_sent(void* request, ucs_status_t status, void* self) {
  PREGATE_CHECK(status == UCS_OK);
  static_cast<RawUcx*>(self)->sending_ = false;
  ucp_request_free(request);
}

void RawUcx::on_received(void* request, ucs_status_t status, size_t, void* self) {
  PREGATE_CHECK(status == UCS_OK);
  ++static_cast<RawUcx*>(self)->num_arrived_;
  ucp_request_free(request);
}

}  // namespace pregate::transport
