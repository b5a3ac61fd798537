// The least that UCX needs for an echo: what the transport is measured against.
#pragma once

#include <atomic>
#include <cstddef>
#include <vector>

#include <ucp/api/ucp.h>

namespace pregate::transport {

/// A worker and an endpoint to another one, with one buffer each way.
class RawUcx {
 public:
  explicit RawUcx(size_t buffer_bytes);
  ~RawUcx();
  RawUcx(const RawUcx&) = delete;
  RawUcx& operator=(const RawUcx&) = delete;

  void connect_to(const RawUcx& other);
  void send(size_t bytes);
  /// Until a message has arrived; false if `active` ends first.
  bool receive(const std::atomic<bool>& active);

 private:
  void wait();
  static ucs_status_t on_message(void* self, const void* header, size_t header_bytes, void* data,
                                 size_t data_bytes, const ucp_am_recv_param_t* param);
  static void on_sent(void* request, ucs_status_t status, void* self);
  static void on_received(void* request, ucs_status_t status, size_t bytes, void* self);

  ucp_context_h context_ = nullptr;
  ucp_worker_h worker_ = nullptr;
  ucp_address_t* address_ = nullptr;
  ucp_ep_h endpoint_ = nullptr;
  int event_fd_ = -1;
  std::vector<std::byte> out_, in_;
  bool sending_ = false;
  size_t num_arrived_ = 0;
};

}  // namespace pregate::transport
