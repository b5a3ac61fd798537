// One request for generation on its way: submits its prompts, and turns what comes back into an
// answer or a stream of server-sent events.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "coordinator/api/answer_format.h"
#include "coordinator/api/http_server.h"
#include "coordinator/api/prepare.h"

namespace pregate::coordinator {

struct CallContext {
  std::shared_ptr<HttpExchange> exchange;
  GenerationService& service;
  IoPost io_post;
};

/// I/O thread only. Lives as long as the service holds its listeners.
class GenerationCall : public std::enable_shared_from_this<GenerationCall> {
 public:
  /// Submits and returns. The exchange is answered, now or later, in every case.
  static void start(CallContext context, PreparedCall call, std::unique_ptr<AnswerFormat> format);

 private:
  struct Choice {
    GenerationChunk all;     // merged, unless the answer is streamed
    size_t text_offset = 0;  // characters streamed
    bool started = false;
  };

  GenerationCall(CallContext context, PreparedCall call, std::unique_ptr<AnswerFormat> format);

  void submit();
  GenerationListener listener(size_t prompt_idx);
  void on_chunk(size_t prompt_idx, GenerationChunk chunk);
  void count(size_t prompt_idx, const GenerationChunk& chunk);
  void merge(Choice& choice, GenerationChunk chunk);
  void stream(size_t prompt_idx, const GenerationChunk& chunk);
  bool worth_an_event(const Choice& choice, const GenerationChunk& chunk) const;
  uint32_t choice_index(size_t prompt_idx, uint32_t choice) const;
  void write_event(const boost::json::object& event);
  void finish();
  boost::json::array whole_choices() const;
  void fail(const ApiError& error);
  void cancel();

  const CallContext context_;
  PreparedCall call_;
  const std::unique_ptr<AnswerFormat> format_;

  std::vector<RequestId> requests_;      // one per prompt, once submitted
  std::vector<Choice> choices_;          // [prompt * n + choice]
  std::vector<uint32_t> cached_tokens_;  // per prompt
  Usage usage_;
  size_t num_unfinished_ = 0;
  bool streaming_ = false;  // the head has been sent
  bool over_ = false;       // nothing more is to be sent
};

/// The text of a server-sent event.
std::string sse_event(std::string_view data);

}  // namespace pregate::coordinator
