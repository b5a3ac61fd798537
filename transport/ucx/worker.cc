#include "transport/ucx/worker.h"

#include <csignal>
#include <cstdlib>
#include <mutex>

#include <ucs/debug/debug.h>

#include "transport/ucx/frame.h"

namespace pregate::transport {
namespace {

struct ReleaseConfig {
  void operator()(ucp_config_t* config) const { ucp_config_release(config); }
};
using Config = std::unique_ptr<ucp_config_t, ReleaseConfig>;

/// Not setenv(): another transport of this process may want another device, and other threads may
/// be reading the environment.
void set_default(const Config& config, const std::string& name, const std::string& value) {
  for (const char* prefix : {"UCX_", "UCX_TCP_"}) {
    if (std::getenv((prefix + name).c_str()) != nullptr) return;
  }
  ucp_config_modify(config.get(), name.c_str(), value.c_str());
}

Result<Config> read_config(const std::string& device) {
  ucp_config_t* raw = nullptr;
  PREGATE_TRY(ucx_status(ucp_config_read(nullptr, nullptr, &raw), "ucp_config_read"));
  Config config(raw);
  // Shared memory would not tell of a peer's death.
  set_default(config, "TLS", "tcp,self");
  // UCX aborts the process when a peer dies while the kernel has a part of what it sends in place
  // (uct_tcp_ep_sendv() completes it twice). Copied into segments of this size it is as fast.
  set_default(config, "ZCOPY_THRESH", "inf");
  set_default(config, "RNDV_SCHEME", "am");
  // It also aborts when a peer that dies has acknowledged a put, which it uses in any scheme, while
  // what it sends to it fails (uct_tcp_ep_handle_put_ack()).
  set_default(config, "PUT_ENABLE", "n");
  set_default(config, "TX_SEG_SIZE", "64k");
  set_default(config, "RX_SEG_SIZE", "64k");
  // Else large messages are cut in pieces that go through lo and eth0 by turns.
  set_default(config, "MAX_RNDV_RAILS", "1");
  if (!device.empty()) set_default(config, "NET_DEVICES", device);
  return config;
}

/// A crash of this program is not UCX's to report. It has set its handlers when it was loaded, too
/// early for a setting made here.
void disable_signal_handlers() {
  if (std::getenv("UCX_ERROR_SIGNALS") != nullptr) return;
  for (const int signal : {SIGILL, SIGSEGV, SIGBUS, SIGFPE}) ucs_debug_disable_signal(signal);
}

}  // namespace

Status ucx_status(ucs_status_t status, const char* what) {
  if (status == UCS_OK) return {};
  return fail(ErrorCode::kUnavailable, "UCX: {}: {}", what, ucs_status_string(status));
}

Result<std::unique_ptr<UcpWorker>> UcpWorker::create(const std::string& device) {
  std::unique_ptr<UcpWorker> worker(new UcpWorker);
  PREGATE_TRY(worker->open(device));
  return worker;
}

Status UcpWorker::open(const std::string& device) {
  PREGATE_ASSIGN(const Config config, read_config(device));
  static std::once_flag disabled;
  std::call_once(disabled, disable_signal_handlers);
  ucp_params_t params{};
  params.field_mask = UCP_PARAM_FIELD_FEATURES;
  params.features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP;
  PREGATE_TRY(ucx_status(ucp_init(&params, config.get(), &context_),
                         "ucp_init (see UCX_TLS and UCX_NET_DEVICES)"));
  return open_worker();
}

Status UcpWorker::open_worker() {
  ucp_worker_params_t params{};
  params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
  params.thread_mode = UCS_THREAD_MODE_SERIALIZED;
  PREGATE_TRY(ucx_status(ucp_worker_create(context_, &params, &worker_), "ucp_worker_create"));
  PREGATE_TRY(ucx_status(ucp_worker_get_efd(worker_, &event_fd_), "ucp_worker_get_efd"));
  ucp_worker_attr_t attributes{};
  attributes.field_mask = UCP_WORKER_ATTR_FIELD_MAX_AM_HEADER;
  PREGATE_TRY(ucx_status(ucp_worker_query(worker_, &attributes), "ucp_worker_query"));
  if (attributes.max_am_header < kMaxUcxHeaderBytes) {
    return fail(ErrorCode::kUnavailable,
                "UCX takes headers of {} bytes, expected at least {}: see UCX_TLS",
                attributes.max_am_header, kMaxUcxHeaderBytes);
  }
  return set_frame_handler();
}

Status UcpWorker::set_frame_handler() {
  ucp_am_handler_param_t params{};
  params.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_FLAGS |
                      UCP_AM_HANDLER_PARAM_FIELD_CB | UCP_AM_HANDLER_PARAM_FIELD_ARG;
  params.id = kUcxFrameId;
  params.flags = UCP_AM_FLAG_WHOLE_MSG;
  params.cb = &UcpWorker::handle_frame;
  params.arg = this;
  return ucx_status(ucp_worker_set_am_recv_handler(worker_, &params),
                    "ucp_worker_set_am_recv_handler");
}

UcpWorker::~UcpWorker() {
  if (worker_ != nullptr) ucp_worker_destroy(worker_);
  if (context_ != nullptr) ucp_cleanup(context_);
}

ucs_status_t UcpWorker::handle_frame(void* self, const void* header, size_t header_bytes,
                                     void* data, size_t data_bytes,
                                     const ucp_am_recv_param_t* param) {
  const auto& handler = static_cast<UcpWorker*>(self)->on_frame_;
  if (!handler) return UCS_OK;
  return handler({static_cast<const std::byte*>(header), header_bytes}, data, data_bytes, *param);
}

}  // namespace pregate::transport
