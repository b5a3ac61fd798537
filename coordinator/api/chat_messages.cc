#include "coordinator/api/chat_messages.h"

#include <fmt/format.h>

namespace pregate::coordinator {
namespace {

namespace json = boost::json;

constexpr size_t kMaxMessages = 10'000;

const json::string* string_member(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value == nullptr ? nullptr : value->if_string();
}

/// The text of a list of content parts. Sets an error for parts that are not text.
std::string joined_parts(FieldReader& in, const json::array& parts, const std::string& where) {
  std::string text;
  for (size_t i = 0; i < parts.size(); ++i) {
    const json::object* part = parts[i].if_object();
    const json::string* type = part == nullptr ? nullptr : string_member(*part, "type");
    const json::string* piece = part == nullptr ? nullptr : string_member(*part, "text");
    if (type == nullptr || *type != "text" || piece == nullptr) {
      in.fail("messages", fmt::format("{}.content[{}]: only parts {{\"type\": \"text\", \"text\": "
                                      "...}} are supported",
                                      where, i));
      return {};
    }
    if (i > 0) text += '\n';
    text += *piece;
  }
  return text;
}

void normalise_content(FieldReader& in, json::object& message, const std::string& where) {
  json::value& content = message["content"];
  if (content.is_null()) {
    content = "";
  } else if (content.is_array()) {
    content = joined_parts(in, content.get_array(), where);
  } else if (!content.is_string()) {
    in.fail("messages", fmt::format("{}.content: expected a string or a list of parts", where));
  }
}

/// Leaves alone what does not have the expected form: the template decides what to do with it.
void parse_tool_arguments(json::object& message) {
  json::value* calls = message.if_contains("tool_calls");
  if (calls == nullptr || !calls->is_array()) return;
  for (json::value& call : calls->get_array()) {
    json::value* function = call.is_object() ? call.get_object().if_contains("function") : nullptr;
    if (function == nullptr || !function->is_object()) continue;
    json::value* arguments = function->get_object().if_contains("arguments");
    if (arguments == nullptr || !arguments->is_string()) continue;
    boost::system::error_code ec;
    json::value parsed = json::parse(arguments->get_string(), ec);
    if (!ec && parsed.is_object()) *arguments = std::move(parsed);
  }
}

void read_message(FieldReader& in, json::value& message, size_t message_idx) {
  const std::string where = fmt::format("[{}]", message_idx);
  json::object* object = message.if_object();
  if (object == nullptr) return in.fail("messages", where + ": expected an object");
  const json::string* role = string_member(*object, "role");
  if (role == nullptr || role->empty()) {
    return in.fail("messages", where + ".role: expected a string");
  }
  normalise_content(in, *object, where);
  parse_tool_arguments(*object);
}

/// Without a parser for the model's tool calls we can offer tools, but not make it use one.
bool tools_offered(FieldReader& in) {
  const json::value* choice = in.find("tool_choice");
  if (choice == nullptr) return true;
  if (choice->is_string() && choice->get_string() == "none") return false;
  if (!choice->is_string() || choice->get_string() != "auto") {
    in.fail("tool_choice", "only \"auto\" and \"none\" are supported");
  }
  return true;
}

}  // namespace

json::array read_messages(FieldReader& in) {
  const json::array* given = in.array("messages");
  if (given == nullptr) {
    in.fail("messages", "required");
    return {};
  }
  if (given->empty() || given->size() > kMaxMessages) {
    in.fail("messages", fmt::format("expected 1 to {} messages", kMaxMessages));
    return {};
  }
  json::array messages = *given;
  for (size_t i = 0; i < messages.size(); ++i) read_message(in, messages[i], i);
  return messages;
}

model::ChatOptions read_chat_options(FieldReader& in) {
  model::ChatOptions options;
  in.read("add_generation_prompt", options.add_generation_prompt);
  if (const json::object* variables = in.object("chat_template_kwargs")) {
    options.variables = *variables;
  }
  const bool offered = tools_offered(in);
  const json::array* tools = in.array("tools");
  if (tools != nullptr && offered) options.tools = *tools;
  return options;
}

}  // namespace pregate::coordinator
