#include "coordinator/api/http_exchange.h"

#include <utility>

#include "base/check.h"

namespace pregate::coordinator {

HttpResponse plain_fault(const RequestFault& fault) {
  return {
      .status = fault.status, .content_type = "text/plain", .headers = {}, .body = fault.message};
}

ConnectionExchange::ConnectionExchange(HttpRequest request, const HttpServerOptions& options,
                                       std::function<void()> wake)
    : request_(std::move(request)),
      max_unsent_bytes_(options.max_unsent_bytes),
      common_headers_(options.common_headers),
      wake_(std::move(wake)),
      keep_alive_(request_.keep_alive) {}

void ConnectionExchange::send_head(HttpResponse& response, BodyFraming framing) {
  PREGATE_CHECK(state_ == State::kWaiting);
  status_ = response.status;
  response.headers.insert(response.headers.end(), common_headers_.begin(), common_headers_.end());
  unsent_ = serialize_head({response, framing, keep_alive_});
}

void ConnectionExchange::respond(HttpResponse response) {
  if (ended()) return;
  send_head(response, BodyFraming::kLength);
  if (request_.method != "HEAD") unsent_ += response.body;
  end();
}

void ConnectionExchange::begin_stream(HttpResponse head) {
  if (ended()) return;
  chunked_ = !request_.http_1_0;
  keep_alive_ = keep_alive_ && chunked_;
  send_head(head, chunked_ ? BodyFraming::kChunked : BodyFraming::kUntilClose);
  state_ = State::kStreaming;
  wake_();
}

void ConnectionExchange::write(std::string bytes) {
  if (ended() || bytes.empty()) return;
  PREGATE_CHECK(state_ == State::kStreaming);
  unsent_ += chunked_ ? chunk_of(bytes) : bytes;
  if (unsent_.size() + taken_bytes_ > max_unsent_bytes_) {
    abandon();
  } else {
    wake_();
  }
}

void ConnectionExchange::end_stream(bool complete) {
  if (ended()) return;
  PREGATE_CHECK(state_ == State::kStreaming);
  if (chunked_) unsent_ += kLastChunk;
  keep_alive_ = keep_alive_ && complete;
  end();
}

void ConnectionExchange::on_abandoned(std::function<void()> callback) {
  on_abandoned_ = std::move(callback);
}

std::string ConnectionExchange::take_unsent() {
  taken_bytes_ = unsent_.size();
  return std::exchange(unsent_, {});
}

void ConnectionExchange::abandon() {
  if (ended()) {
    // The handler is done already; only the sending ends early.
    if (state_ == State::kEnded) state_ = State::kAbandoned;
    return;
  }
  state_ = State::kAbandoned;
  if (const auto callback = std::exchange(on_abandoned_, nullptr)) callback();
  wake_();
}

void ConnectionExchange::end() {
  state_ = State::kEnded;
  on_abandoned_ = nullptr;
  wake_();
}

}  // namespace pregate::coordinator
