// Any bytes as tokenizer.json, then a short text through it and back.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "model/tokenizer/json_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pregate::model;
  const std::string_view json(reinterpret_cast<const char*>(data), size);
  const auto tokenizer = JsonTokenizer::from_text(json, "");
  if (!tokenizer) return 0;
  constexpr std::string_view kText =
      "Ab 12 \xE2\x96\x81<s>\xC3\xA9\xFF e\xCC\x81\n  \xF0\x9F\x98\x80.";
  const auto ids = (*tokenizer)->encode(kText, true);
  const std::string text = (*tokenizer)->decode(ids, false);
  StreamDecoder stream(**tokenizer, {}, false);
  std::string streamed;
  for (const pregate::TokenId id : ids) streamed += stream.push(id);
  streamed += stream.finish();
  PREGATE_CHECK(streamed == text);
  return 0;
}
