// Owns what UCX needs once per transport: a context and a worker.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>

#include <ucp/api/ucp.h>

#include "base/result.h"

namespace pregate::transport {

/// Used by one thread at a time.
class UcpWorker {
 public:
  /// Gets each frame while progress() runs; answers as UCX wants to hear it.
  using OnFrame = std::function<ucs_status_t(std::span<const std::byte> header, void* data,
                                             size_t data_bytes, const ucp_am_recv_param_t& param)>;

  /// `device`: what UCX_NET_DEVICES says if the environment does not; empty: any.
  static Result<std::unique_ptr<UcpWorker>> create(const std::string& device);
  ~UcpWorker();
  UcpWorker(const UcpWorker&) = delete;
  UcpWorker& operator=(const UcpWorker&) = delete;

  ucp_worker_h get() const { return worker_; }
  void on_frame(OnFrame handler) { on_frame_ = std::move(handler); }

  /// Lets UCX work; false if there was nothing to do.
  bool progress() { return ucp_worker_progress(worker_) != 0; }
  /// Readable when there is something to do, once arm() has said true; false: there already is.
  int event_fd() const { return event_fd_; }
  bool arm() { return ucp_worker_arm(worker_) == UCS_OK; }

 private:
  UcpWorker() = default;
  Status open(const std::string& device);
  Status open_worker();
  Status set_frame_handler();
  static ucs_status_t handle_frame(void* self, const void* header, size_t header_bytes, void* data,
                                   size_t data_bytes, const ucp_am_recv_param_t* param);

  ucp_context_h context_ = nullptr;
  ucp_worker_h worker_ = nullptr;
  int event_fd_ = -1;
  OnFrame on_frame_;
};

/// The active message that carries frames.
inline constexpr unsigned kUcxFrameId = 1;

Status ucx_status(ucs_status_t status, const char* what);

}  // namespace pregate::transport
