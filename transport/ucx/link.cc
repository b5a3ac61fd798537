#include "transport/ucx/link.h"

#include <algorithm>

namespace pregate::transport {
namespace {

/// As PeerTable counts a send.
size_t counted_bytes(size_t data_bytes) { return kMaxHeaderBytes + data_bytes; }

}  // namespace

Result<uint16_t> UcxLink::listen(SocketAddress host) {
  host.set_port(0);
  ucp_listener_params_t params{};
  params.field_mask = UCP_LISTENER_PARAM_FIELD_SOCK_ADDR | UCP_LISTENER_PARAM_FIELD_CONN_HANDLER;
  params.sockaddr = {host.get(), host.size};
  params.conn_handler = {&UcxLink::on_call, this};
  PREGATE_TRY(ucx_status(ucp_listener_create(links_.worker.get(), &params, &listener_),
                         "ucp_listener_create"));
  ucp_listener_attr_t attributes{};
  attributes.field_mask = UCP_LISTENER_ATTR_FIELD_SOCKADDR;
  PREGATE_TRY(ucx_status(ucp_listener_query(listener_, &attributes), "ucp_listener_query"));
  SocketAddress bound;
  bound.storage = attributes.sockaddr;
  return bound.port();
}

void UcxLink::on_call(ucp_conn_request_h caller, void* user_data) {
  auto& link = *static_cast<UcxLink*>(user_data);
  if (link.caller_ != nullptr || link.is_open() || link.closing_) {
    ucp_listener_reject(link.listener_, caller);
    return;
  }
  link.caller_ = caller;
  link.touch();
}

Status UcxLink::accept(uint64_t remote_token) {
  ucp_ep_params_t params{};
  params.field_mask = UCP_EP_PARAM_FIELD_CONN_REQUEST;
  params.conn_request = std::exchange(caller_, nullptr);
  const Status opened = open(params, remote_token);
  close_listener();
  return opened;
}

Status UcxLink::dial(const SocketAddress& address, uint64_t remote_token) {
  ucp_ep_params_t params{};
  params.field_mask = UCP_EP_PARAM_FIELD_FLAGS | UCP_EP_PARAM_FIELD_SOCK_ADDR;
  params.flags = UCP_EP_PARAMS_FLAGS_CLIENT_SERVER;
  params.sockaddr = {address.get(), address.size};
  return open(params, remote_token);
}

Status UcxLink::open(ucp_ep_params_t& params, uint64_t remote_token) {
  remote_token_ = remote_token;
  params.field_mask |= UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE | UCP_EP_PARAM_FIELD_ERR_HANDLER;
  params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
  params.err_handler = {&UcxLink::on_error, this};
  return ucx_status(ucp_ep_create(links_.worker.get(), &params, &endpoint_), "ucp_ep_create");
}

void UcxLink::close_listener() {
  if (listener_ == nullptr) return;
  if (caller_ != nullptr) ucp_listener_reject(listener_, std::exchange(caller_, nullptr));
  ucp_listener_destroy(std::exchange(listener_, nullptr));
}

std::vector<std::byte> UcxLink::make_header(std::span<const std::byte> header) {
  std::vector<std::byte> bytes(sizeof(UcxFramePrefix) + header.size());
  std::copy(header.begin(), header.end(), bytes.begin() + sizeof(UcxFramePrefix));
  return bytes;
}

void UcxLink::send(uint64_t send_id, UcxFrameKind kind, std::vector<std::byte> header,
                   Payload payload) {
  const UcxFramePrefix prefix{remote_token_, next_send_number_++, kind};
  std::memcpy(header.data(), &prefix, sizeof(prefix));
  // In the list before UCX knows its bytes: it may call back at once.
  sends_.push_back({this, send_id, std::move(header), std::move(payload)});
  ++num_unfinished_;
  post(sends_.back());
}

void UcxLink::post(Send& send) {
  const size_t size = send.payload.size();
  ucp_request_param_t params{};
  params.op_attr_mask =
      UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_FLAGS;
  params.flags =
      size > links_.rendezvous_threshold_bytes ? UCP_AM_SEND_FLAG_RNDV : UCP_AM_SEND_FLAG_EAGER;
  params.cb.send = &UcxLink::on_sent;
  params.user_data = &send;
  const ucs_status_ptr_t request =
      ucp_am_send_nbx(endpoint_, kUcxFrameId, send.header.data(), send.header.size(),
                      send.payload.bytes().data(), size, &params);
  // A request in progress is answered in on_sent().
  if (!UCS_PTR_IS_PTR(request)) on_sent(nullptr, UCS_PTR_STATUS(request), &send);
}

void UcxLink::on_sent(void* request, ucs_status_t status, void* user_data) {
  auto& send = *static_cast<Send*>(user_data);
  UcxLink& link = *send.link;
  if (request != nullptr) ucp_request_free(request);
  send.done = true;
  --link.num_unfinished_;
  if (status != UCS_OK) link.break_down(ucx_status(status, "send").error());
  link.touch();
}

std::vector<uint64_t> UcxLink::take_sent() {
  std::vector<uint64_t> ids;
  while (!sends_.empty() && sends_.front().done) {
    ids.push_back(sends_.front().id);
    sends_.pop_front();
  }
  return ids;
}

ucs_status_t UcxLink::receive(std::span<const std::byte> bytes, void* data, size_t data_bytes,
                              const ucp_am_recv_param_t& param) {
  // UCS_OK without having taken the data drops them.
  if (closing_ || error_) return UCS_OK;
  const auto prefix = read_struct<UcxFramePrefix>(bytes);
  const auto header = bytes.subspan(sizeof(prefix));
  if (header.size() > kMaxHeaderBytes || data_bytes > kMaxPayloadBytes ||
      prefix.number < next_arrival_ || !hold(data_bytes)) {
    break_down({ErrorCode::kDataLoss,
                fmt::format("frame {} with {} header and {} payload bytes was not to come",
                            prefix.number, header.size(), data_bytes)});
    return UCS_OK;
  }
  UcxFrame frame{prefix.kind, {header.begin(), header.end()}, {}};
  if ((param.recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0) {
    return begin_receive(prefix.number, std::move(frame), data, data_bytes);
  }
  // Not kept in UCX's buffer, where it would not begin at a cache line.
  frame.payload = Payload::copy_of({static_cast<const std::byte*>(data), data_bytes});
  arrive(prefix.number, std::move(frame));
  return UCS_OK;
}

bool UcxLink::hold(size_t data_bytes) {
  if (held_bytes_ + counted_bytes(data_bytes) > links_.max_held_bytes) return false;
  held_bytes_ += counted_bytes(data_bytes);
  return true;
}

ucs_status_t UcxLink::begin_receive(uint64_t number, UcxFrame frame, void* data,
                                    size_t data_bytes) {
  const auto buffer = allocate_payload(data_bytes);
  frame.payload = Payload(buffer, data_bytes);
  Receive& receive = receives_.emplace_back(Receive{this, number, std::move(frame), data_bytes});
  ucp_request_param_t params{};
  params.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  params.cb.recv_am = &UcxLink::on_received;
  params.user_data = &receive;
  const ucs_status_ptr_t request =
      ucp_am_recv_data_nbx(links_.worker.get(), data, buffer.get(), data_bytes, &params);
  if (!UCS_PTR_IS_PTR(request)) finish_receive(receive, UCS_PTR_STATUS(request));
  return UCS_INPROGRESS;
}

void UcxLink::on_received(void* request, ucs_status_t status, size_t, void* user_data) {
  ucp_request_free(request);
  auto& receive = *static_cast<Receive*>(user_data);
  receive.link->finish_receive(receive, status);
}

void UcxLink::finish_receive(Receive& receive, ucs_status_t status) {
  const uint64_t number = receive.number;
  UcxFrame frame = std::move(receive.frame);
  receives_.remove_if([&](const Receive& each) { return &each == &receive; });
  if (status != UCS_OK) {
    break_down(ucx_status(status, "receive").error());
  } else {
    arrive(number, std::move(frame));
  }
}

void UcxLink::arrive(uint64_t number, UcxFrame frame) {
  touch();
  if (number != next_arrival_) {
    early_.emplace(number, std::move(frame));
    return;
  }
  arrived_.push_back(std::move(frame));
  ++next_arrival_;
  for (auto next = early_.begin(); next != early_.end() && next->first == next_arrival_;) {
    arrived_.push_back(std::move(next->second));
    ++next_arrival_;
    next = early_.erase(next);
  }
}

std::optional<UcxFrame> UcxLink::next_frame() {
  if (arrived_.empty()) return std::nullopt;
  UcxFrame frame = std::move(arrived_.front());
  arrived_.pop_front();
  held_bytes_ -= counted_bytes(frame.payload.size());
  return frame;
}

void UcxLink::on_error(void* user_data, ucp_ep_h, ucs_status_t status) {
  auto& link = *static_cast<UcxLink*>(user_data);
  link.break_down({ErrorCode::kUnavailable,
                   fmt::format("the connection broke (UCX: {})", ucs_status_string(status))});
}

void UcxLink::break_down(Error error) {
  if (!error_) error_ = std::move(error);
  touch();
}

void UcxLink::close() {
  if (std::exchange(closing_, true)) return;
  early_.clear();
  arrived_.clear();
  close_listener();
  if (endpoint_ == nullptr) return;
  ucp_request_param_t params{};
  params.op_attr_mask =
      UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_FLAGS;
  params.flags = UCP_EP_CLOSE_FLAG_FORCE;
  params.cb.send = &UcxLink::on_closed;
  params.user_data = this;
  const ucs_status_ptr_t request = ucp_ep_close_nbx(endpoint_, &params);
  if (!UCS_PTR_IS_PTR(request)) endpoint_ = nullptr;
}

void UcxLink::on_closed(void* request, ucs_status_t, void* user_data) {
  auto& link = *static_cast<UcxLink*>(user_data);
  ucp_request_free(request);
  link.endpoint_ = nullptr;
  link.touch();
}

bool UcxLink::is_closed() const {
  return closing_ && endpoint_ == nullptr && num_unfinished_ == 0 && receives_.empty();
}

}  // namespace pregate::transport
