// Replays what make_chat_data.py recorded from jinja2.
#include <filesystem>

#include <boost/json.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/mapped_file.h"
#include "model/chat/chat_template.h"

namespace pregate::model {
namespace {

using boost::json::object;
using testing::HasSubstr;

const std::filesystem::path kData =
    std::filesystem::path(PREGATE_SOURCE_DIR) / "tests/unit/chat/data";

boost::json::value read_json(const std::string& name) {
  return boost::json::parse(read_file(kData / name).value());
}

const object& expected() {
  static const boost::json::value json = read_json("expected.json");
  return json.get_object();
}

const object& special_tokens() { return expected().at("special_tokens").get_object(); }

std::string text_of(const object& json, const char* key) {
  return std::string(json.at(key).get_string());
}

/// The recorded outcome: the same text, or an error of the same kind. Words of Python's own
/// exceptions are not compared, those of the template and of jinja2 are.
void expect_outcome(const object& wanted, const Result<std::string>& got) {
  if (wanted.contains("text")) {
    ASSERT_TRUE(got.has_value()) << got.error().message << "\nexpected:\n" << wanted.at("text");
    EXPECT_EQ(*got, text_of(wanted, "text"));
    return;
  }
  const std::string words = text_of(wanted, "error");
  ASSERT_FALSE(got.has_value()) << "expected the error: " << words << "\ngot:\n" << *got;
  const std::string kind = text_of(wanted, "kind");
  if (kind == "raised") {
    EXPECT_EQ(got.error().message, words);
    return;
  }
  EXPECT_THAT(got.error().message, HasSubstr("line "));
  if (kind == "undefined" || kind == "security") {
    EXPECT_THAT(got.error().message, HasSubstr(words));
  }
}

Result<std::string> render(const std::string& source, const object& conversation) {
  PREGATE_ASSIGN(const auto chat_template, ChatTemplate::parse(source, special_tokens()));
  ChatOptions options;
  options.add_generation_prompt = conversation.at("add_generation_prompt").get_bool();
  options.tools = conversation.at("tools").get_array();
  options.variables = conversation.at("variables").get_object();
  return chat_template->render(conversation.at("messages").get_array(), options);
}

TEST(ChatDifferential, TemplatesRenderAsInJinja2) {
  const boost::json::value json = read_json("conversations.json");
  std::map<std::string, object> conversations;
  for (const auto& item : json.get_array()) {
    conversations[text_of(item.get_object(), "name")] = item.get_object();
  }
  const auto& renderings = expected().at("renderings").get_array();
  ASSERT_GE(renderings.size(), 400u);
  for (const auto& item : renderings) {
    const auto& wanted = item.get_object();
    const std::string name = text_of(wanted, "template");
    SCOPED_TRACE(name + ", " + text_of(wanted, "conversation"));
    const std::string source = read_file(kData / "templates" / name).value();
    expect_outcome(wanted, render(source, conversations.at(text_of(wanted, "conversation"))));
  }
}

TEST(ChatDifferential, ExpressionsEvaluateAsInJinja2) {
  const auto& snippets = expected().at("snippets").get_array();
  ASSERT_GE(snippets.size(), 200u);
  ChatOptions options;
  options.variables = expected().at("snippet_variables").get_object();
  for (const auto& item : snippets) {
    const std::string source = text_of(item.get_object(), "source");
    SCOPED_TRACE(source);
    const auto chat_template = ChatTemplate::parse(source, {});
    expect_outcome(item.get_object(), chat_template ? (*chat_template)->render({}, options)
                                                    : fail(chat_template.error()));
  }
}

TEST(ChatDifferential, BadTemplatesNameTheLine) {
  const auto& cases = expected().at("syntax_errors").get_array();
  ASSERT_GE(cases.size(), 60u);
  for (const auto& item : cases) {
    const auto& wanted = item.get_object();
    const std::string source = text_of(wanted, "source");
    SCOPED_TRACE(source + "\njinja2: " + text_of(wanted, "error"));
    const auto got = ChatTemplate::parse(source, {});
    ASSERT_FALSE(got.has_value());
    EXPECT_EQ(got.error().code, ErrorCode::kInvalidArgument);
    const auto* line = wanted.if_contains("line");
    const std::string number = line ? std::to_string(line->to_number<int>()) + ": " : "";
    EXPECT_THAT(got.error().message, HasSubstr("line " + number));
  }
}

}  // namespace
}  // namespace pregate::model
