// An exchange without a connection, and a service whose every step the test makes.
#pragma once

#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/api/http_server.h"
#include "coordinator/scheduling/generation.h"

namespace pregate::coordinator::testing {

class FakeExchange : public HttpExchange {
 public:
  explicit FakeExchange(HttpRequest request) : request_(std::move(request)) {}

  const HttpRequest& request() const override { return request_; }
  void respond(HttpResponse response) override { answer = std::move(response); }
  void begin_stream(HttpResponse head) override { stream_head = std::move(head); }
  void write(std::string bytes) override { streamed += bytes; }
  void end_stream(bool complete) override { stream_complete = complete; }
  void on_abandoned(std::function<void()> callback) override { abandon = std::move(callback); }
  void set_route(std::string_view name) override { route = name; }

  std::optional<HttpResponse> answer;
  std::optional<HttpResponse> stream_head;
  std::string streamed;
  std::optional<bool> stream_complete;
  std::function<void()> abandon;
  std::string route;

 private:
  const HttpRequest request_;
};

/// Thread-safe.
class ManualService : public GenerationService {
 public:
  Result<RequestId> submit(GenerationRequest request, GenerationListener listener) override {
    const std::lock_guard lock(mutex_);
    if (requests_.size() >= capacity)
      return fail(ErrorCode::kResourceExhausted, "the queue is full");
    requests_.push_back({std::move(request), std::move(listener)});
    return RequestId(requests_.size() - 1);
  }
  void cancel(RequestId id) override {
    const std::lock_guard lock(mutex_);
    cancelled_.push_back(id.value);
  }

  size_t num_requests() const {
    const std::lock_guard lock(mutex_);
    return requests_.size();
  }
  std::vector<uint64_t> cancelled() const {
    const std::lock_guard lock(mutex_);
    return cancelled_;
  }
  GenerationRequest request(size_t idx) const {
    const std::lock_guard lock(mutex_);
    return requests_.at(idx).request;
  }
  /// One token of choice 0 per byte of `text`.
  void say(size_t idx, const std::string& text, std::optional<FinishReason> finish = {}) {
    GenerationChunk chunk;
    chunk.text = text;
    for (const char c : text) {
      chunk.tokens.push_back({static_cast<unsigned char>(c), -1.0f, {}, std::string(1, c)});
    }
    chunk.finish = finish;
    send(idx, std::move(chunk));
  }
  void send(size_t idx, GenerationChunk chunk) { listener(idx).on_chunk(std::move(chunk)); }
  void break_down(size_t idx, const Error& error) { listener(idx).on_error(error); }
  /// As a scheduler does with a request that has ended.
  void forget(size_t idx) {
    const std::lock_guard lock(mutex_);
    requests_.at(idx).listener = {};
  }

  size_t capacity = 1000;

 private:
  struct Submitted {
    GenerationRequest request;
    GenerationListener listener;
  };
  GenerationListener listener(size_t idx) const {
    const std::lock_guard lock(mutex_);
    return requests_.at(idx).listener;
  }

  mutable std::mutex mutex_;
  std::deque<Submitted> requests_;   // guarded by mutex_
  std::vector<uint64_t> cancelled_;  // guarded by mutex_
};

}  // namespace pregate::coordinator::testing
