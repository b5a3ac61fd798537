// Any bytes as a chat template: parsed and rendered over a short conversation.
#include <cstddef>
#include <cstdint>
#include <string>

#include <boost/json.hpp>

#include "model/chat/chat_template.h"

namespace {

const boost::json::array& messages() {
  static const boost::json::array array = {
      {{"role", "system"}, {"content", "Be brief."}},
      {{"role", "user"}, {"content", {{{"type", "text"}, {"text", "héllo 😀\n"}}}}},
      {{"role", "assistant"},
       {"content", nullptr},
       {"tool_calls", {{{"function", {{"name", "f"}, {"arguments", {{"x", 1}, {"y", 0.5}}}}}}}}},
  };
  return array;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string source(reinterpret_cast<const char*>(data), size);
  const auto chat_template =
      pregate::model::ChatTemplate::parse(source, {{"bos_token", "<s>"}, {"eos_token", "</s>"}});
  if (!chat_template) return 0;
  pregate::model::ChatOptions options;
  options.tools = {{{"type", "function"}, {"function", {{"name", "f"}}}}};
  (void)(*chat_template)->render(messages(), options);
  return 0;
}
