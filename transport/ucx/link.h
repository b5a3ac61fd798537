// One connection as UCX has it: an endpoint, and what it is sending and receiving.
#pragma once

#include <deque>
#include <list>
#include <map>
#include <optional>

#include "transport/ucx/frame.h"
#include "transport/ucx/socket.h"
#include "transport/ucx/worker.h"

namespace pregate::transport {

/// A frame that has arrived, in its turn.
struct UcxFrame {
  UcxFrameKind kind = UcxFrameKind::kMessage;
  std::vector<std::byte> header;
  Payload payload;
};

/// What all links of a transport share.
struct UcxLinks {
  UcpWorker& worker;
  const size_t rendezvous_threshold_bytes;
  const size_t max_held_bytes;
  /// The tokens of links with which something has happened while UCX progressed. UCX is not called
  /// back into from there, and nor is the user.
  std::vector<uint64_t> touched;
};

/// Used by the thread that owns the worker. Destroyed when it is closed, or after the worker.
class UcxLink {
 public:
  /// Peers put `token` on what they send here.
  UcxLink(UcxLinks& links, uint64_t token) : links_(links), token_(token) {}
  UcxLink(const UcxLink&) = delete;
  UcxLink& operator=(const UcxLink&) = delete;

  uint64_t token() const { return token_; }
  /// Opens a port of `host` for one peer, who has said hello: UCX's listener aborts the process
  /// when it is sent anything else, so it is there only as long as it must be.
  Result<uint16_t> listen(SocketAddress host);
  /// Whether that peer has called.
  bool has_caller() const { return caller_ != nullptr; }
  Status accept(uint64_t remote_token);
  /// Calls such a port.
  Status dial(const SocketAddress& address, uint64_t remote_token);
  /// After accept() or dial(): frames can be sent.
  bool is_open() const { return endpoint_ != nullptr; }

  /// Room for the prefix, then the header: what send() takes.
  static std::vector<std::byte> make_header(std::span<const std::byte> header);
  void send(uint64_t send_id, UcxFrameKind kind, std::vector<std::byte> header, Payload payload);
  /// The ids of sends that UCX has done with, in their order. One that finished out of turn waits:
  /// thus the bound on bytes in flight also bounds what the receiver must put back into order.
  std::vector<uint64_t> take_sent();

  /// From the worker's handler: a frame with our token.
  ucs_status_t receive(std::span<const std::byte> bytes, void* data, size_t data_bytes,
                       const ucp_am_recv_param_t& param);
  std::optional<UcxFrame> next_frame();

  /// Set once the link is broken.
  const std::optional<Error>& error() const { return error_; }
  /// Gives the link up by force. What UCX still owns is kept until it gives it back.
  void close();
  bool is_closed() const;

 private:
  struct Send {
    UcxLink* link = nullptr;
    uint64_t id = 0;
    std::vector<std::byte> header;
    Payload payload;
    bool done = false;
  };
  struct Receive {
    UcxLink* link = nullptr;
    uint64_t number = 0;
    UcxFrame frame;
    size_t bytes = 0;
  };

  static void on_call(ucp_conn_request_h caller, void* link);
  static void on_sent(void* request, ucs_status_t status, void* send);
  static void on_received(void* request, ucs_status_t status, size_t bytes, void* receive);
  static void on_closed(void* request, ucs_status_t status, void* link);
  static void on_error(void* link, ucp_ep_h endpoint, ucs_status_t status);

  Status open(ucp_ep_params_t& params, uint64_t remote_token);
  void close_listener();
  void post(Send& send);
  bool hold(size_t data_bytes);
  ucs_status_t begin_receive(uint64_t number, UcxFrame frame, void* data, size_t data_bytes);
  void finish_receive(Receive& receive, ucs_status_t status);
  void arrive(uint64_t number, UcxFrame frame);
  void touch() { links_.touched.push_back(token_); }
  void break_down(Error error);

  UcxLinks& links_;
  const uint64_t token_;
  uint64_t remote_token_ = 0;
  ucp_listener_h listener_ = nullptr;
  ucp_conn_request_h caller_ = nullptr;
  ucp_ep_h endpoint_ = nullptr;
  bool closing_ = false;
  std::optional<Error> error_;

  std::deque<Send> sends_;
  size_t num_unfinished_ = 0;  // of sends_
  uint64_t next_send_number_ = 0;

  std::list<Receive> receives_;         // rendezvous under way
  std::map<uint64_t, UcxFrame> early_;  // before their turn
  std::deque<UcxFrame> arrived_;        // in their turn
  uint64_t next_arrival_ = 0;           // number of the frame whose turn it is
  size_t held_bytes_ = 0;               // of receives_, early_ and arrived_
};

}  // namespace pregate::transport
