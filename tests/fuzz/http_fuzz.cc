// Bytes as a whole HTTP request, and as the body of a request to each endpoint that takes one.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "coordinator/api/prepare.h"
#include "coordinator/api/request_parser.h"
#include "tests/unit/api/fake_exchange.h"
#include "tests/unit/api/fake_model.h"

namespace {

using namespace pregate::coordinator;

void parse_request(std::string_view bytes) {
  RequestParser parser({.header_bytes = 1024, .body_bytes = 4096});
  // In two pieces, so that what is not taken at first is offered again.
  const std::string_view first = bytes.substr(0, bytes.size() / 2);
  const size_t taken = parser.feed(first);
  if (!parser.done() && !parser.fault()) parser.feed(bytes.substr(taken));
  parser.wants_continue();
  if (parser.done()) parser.take();
}

void format_answer(const PreparedCall& call, const AnswerFormat& format) {
  pregate::coordinator::GenerationChunk chunk;
  chunk.finish = FinishReason::kStop;
  const ChoicePiece piece{.choice = 0, .chunk = chunk, .prompt = call.prompts.front()};
  boost::json::serialize(format.whole({format.whole_choice(piece)}, call.prompts.front(), {}));
  boost::json::serialize(format.event(piece, {}));
}

void parse_bodies(std::string_view bytes) {
  static testing::FakeTokenizer tokenizer;
  static testing::FakeChatTemplate chat_template;
  static testing::ManualService service;
  static const ServingModel model{.generation = service,
                                  .tokenizer = tokenizer,
                                  .chat_template = &chat_template,
                                  .max_model_len = 1000,
                                  .vocab_size = tokenizer.vocab_size()};
  static const ServedNames names = {"m"};
  if (const auto call = prepare_completion(bytes, model, names)) {
    format_answer(*call, *completion_format({}, call->fields, tokenizer));
  }
  if (const auto call = prepare_chat(bytes, model, names)) {
    format_answer(*call, *chat_format({}, call->fields, tokenizer));
  }
  (void)answer_tokenize(bytes, model, names);
  (void)answer_detokenize(bytes, model, names);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  parse_request(bytes);
  parse_bodies(bytes);
  return 0;
}
