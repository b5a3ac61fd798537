#include "model/chat/chat_template.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pregate::model {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

boost::json::array messages() {
  return {{{"role", "user"}, {"content", "Hi"}}, {{"role", "assistant"}, {"content", "Hello"}}};
}

Result<std::string> render(std::string source, const ChatOptions& options = {}) {
  PREGATE_ASSIGN(const auto chat_template, ChatTemplate::parse(std::move(source), {}));
  return chat_template->render(messages(), options);
}

Error error_of(std::string source) {
  const auto result = render(std::move(source));
  return result ? Error{ErrorCode::kUnknown, "no error, but: " + *result} : result.error();
}

TEST(ChatTemplate, RendersMessagesAndVariables) {
  ChatOptions options;
  options.add_generation_prompt = false;
  options.variables = {{"name", "x"}};
  EXPECT_EQ(render("{{ messages[1].content }} {{ name }} {{ tools }} {{ add_generation_prompt }}",
                   options),
            "Hello x None False");
}

TEST(ChatTemplate, CallersVariablesDoNotReplaceTheMessages) {
  ChatOptions options;
  options.variables = {{"messages", "mine"}, {"bos_token", "B"}};
  EXPECT_EQ(render("{{ messages | length }}{{ bos_token }}", options), "2B");
}

TEST(ChatTemplate, RaiseExceptionGivesTheTemplatesOwnWords) {
  const Error error = error_of("\n{{ raise_exception('Roles must alternate') }}");
  EXPECT_EQ(error.code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(error.message, "Roles must alternate");
}

TEST(ChatTemplate, FailuresNameTheLine) {
  const Error error =
      error_of("one\ntwo\n{% if true %}\n{{ messages[0].nothing.more }}\n{% endif %}");
  EXPECT_EQ(error.code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(error.message, "chat template, line 4: 'dict object' has no attribute 'nothing'");
  EXPECT_THAT(error_of("\n{{ 1 | nothing }}").message, HasSubstr("line 2: No filter named"));
}

TEST(ChatTemplate, RefusesWhatNeedsOtherTemplates) {
  for (const auto* tag : {"include 'x'", "extends 'x'", "import 'x' as y", "block b"}) {
    EXPECT_THAT(error_of(std::string("{% ") + tag + " %}").message, HasSubstr("unknown"));
  }
}

class Exhausting : public testing::TestWithParam<const char*> {};

TEST_P(Exhausting, EndsWithAnErrorInsteadOfTheProcess) {
  const Error error = error_of(GetParam());
  EXPECT_EQ(error.code, ErrorCode::kResourceExhausted) << error.message;
  EXPECT_THAT(error.message, StartsWith("chat template, line 1: "));
}

INSTANTIATE_TEST_SUITE_P(
    ChatTemplate, Exhausting,
    testing::Values("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
                    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
                    "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
                    "{{ 'a' * 99999999999 }}", "{{ [0] * 99999999999 }}", "{{ range(100001) }}",
                    "{% set ns = namespace(x='aaaaaaaa') %}"
                    "{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
                    "{% set ns = namespace(x=[]) %}"
                    "{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}",
                    "{% set ns = namespace(x=[]) %}{% for i in range(999) %}{% set ns.x = [ns.x] "
                    "%}{% endfor %}",
                    "{% for i in range(9999) %}{{ 'x' * 9999 }}{% endfor %}",
                    "{{ '%99999999999d' % 1 }}", "{{ '{:>99999999999}'.format(1) }}",
                    "{{ ('a' * 9999) | replace('a', 'b' * 9999) }}",
                    "{{ ',' | center(99999999999) }}", "{{ ('x\\n' * 9999) | indent(9999) }}",
                    "{{ [[]] | batch(99999999999, 0) | list }}",
                    "{{ ('a' * 9999).join('b' * 9999) }}", "{{ ('a' * 9999999) | list }}",
                    "{{ ('a' * 9999999).split('a') }}",
                    "{{ range(9999) | map('center', 999999) | list }}"));

TEST(ChatTemplate, RefusesSourceNestedTooDeeply) {
  for (const auto& [begin, middle, end] :
       std::vector<std::array<std::string, 3>>{{"(", "1", ")"},
                                               {"[", "", "]"},
                                               {"not ", "1", ""},
                                               {"-", "1", ""},
                                               {"1 + ", "1", ""},
                                               {"", "x", ".x"},
                                               {"", "x", "()"},
                                               {"", "x", "|e"},
                                               {"", "x", " and x"},
                                               {"1 if 1 else ", "1", ""},
                                               {"{1: ", "1", "}"},
                                               {"", "x", "[0]"}}) {
    std::string source = middle;
    for (int i = 0; i < 2000; ++i) source = begin + source + end;
    const Error error = error_of("{{ " + source + " }}");
    EXPECT_EQ(error.code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(error.message, HasSubstr("too deeply")) << begin << middle << end;
  }
  std::string blocks;
  for (int i = 0; i < 2000; ++i) blocks += "{% if 1 %}";
  EXPECT_THAT(error_of(blocks).message, HasSubstr("too deeply"));
}

TEST(ChatTemplate, LongConversationsAreNoExhaustion) {
  boost::json::array conversation;
  for (int i = 0; i < 200; ++i) {
    conversation.push_back({{"role", "user"}, {"content", std::string(4096, 'x')}});
  }
  const auto chat_template = ChatTemplate::parse(
      "{% for m in messages %}{{ messages[loop.index0 - 1].content }}"
      "{% set users = messages | selectattr('role', 'equalto', 'user') | list %}"
      "{% if messages | length - 1 == loop.index0 or m == users[-1] %}!{% endif %}{% endfor %}",
      {});
  ASSERT_TRUE(chat_template.has_value());
  const auto text = (*chat_template)->render(conversation, {});
  ASSERT_TRUE(text.has_value()) << text.error().message;
  EXPECT_EQ(text->size(), 200u * 4097);
}

TEST(ChatTemplate, ValuesThatHoldThemselvesAreReleased) {
  EXPECT_EQ(
      render("{% set ns = namespace() %}{% set ns.self = ns %}"
             "{% macro m() %}{% endmacro %}{% set ns.m = m %}"
             "{% for x in [1, 2] %}{% if loop.changed([loop]) %}{{ x }}{% endif %}{% endfor %}"),
      "1");
}

TEST(ChatTemplate, RefusesBytesThatAreNotUtf8) {
  const auto result = ChatTemplate::parse("\xff{{ 1 }}", {});
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, ErrorCode::kDataLoss);
}

/// A checkpoint directory with the given files.
class ChatTemplateLoad : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = std::filesystem::path(testing::TempDir()) /
                 testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::create_directories(directory_);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  void write(const char* name, std::string_view text) { std::ofstream(directory_ / name) << text; }

  Result<std::string> load_and_render(const ChatOptions& options = {}) {
    PREGATE_ASSIGN(const auto chat_template, ChatTemplate::load(directory_));
    return chat_template->render(messages(), options);
  }
  Error load_error() {
    const auto result = load_and_render();
    return result ? Error{ErrorCode::kUnknown, "no error"} : result.error();
  }

  std::filesystem::path directory_;
};

TEST_F(ChatTemplateLoad, PrefersTheTemplateFile) {
  write("chat_template.jinja", "file {{ bos_token }}{{ eos_token }}");
  write("tokenizer_config.json",
        R"({"chat_template": "config", "bos_token": "<s>", "eos_token": {"content": "</s>"}})");
  EXPECT_EQ(load_and_render(), "file <s></s>");
}

TEST_F(ChatTemplateLoad, ReadsTheTemplateOfTheTokenizerConfig) {
  write("tokenizer_config.json",
        R"({"chat_template": "config{{ unk_token }}", "unk_token": null})");
  EXPECT_EQ(load_and_render(), "config");
}

TEST_F(ChatTemplateLoad, ChoosesAmongNamedTemplates) {
  write("tokenizer_config.json",
        R"({"chat_template": [{"name": "tool_use", "template": "tools"},
                              {"name": "default", "template": "plain"}]})");
  EXPECT_EQ(load_and_render(), "plain");
  ChatOptions options;
  options.tools = {{{"type", "function"}}};
  EXPECT_EQ(load_and_render(options), "tools");
}

TEST_F(ChatTemplateLoad, SaysWhenThereIsNone) {
  EXPECT_EQ(load_error().code, ErrorCode::kNotFound);
  write("tokenizer_config.json", "{}");
  EXPECT_EQ(load_error().code, ErrorCode::kNotFound);
  EXPECT_THAT(load_error().message, HasSubstr("tokenizer_config.json"));
}

TEST_F(ChatTemplateLoad, NamesTheFileThatIsWrong) {
  const std::string config = (directory_ / "tokenizer_config.json").string();
  for (const auto* text : {"{", "[]", R"({"chat_template": 5})", R"({"chat_template": ["x"]})",
                           R"({"chat_template": [{"name": "other", "template": ""}]})"}) {
    write("tokenizer_config.json", text);
    EXPECT_EQ(load_error().code, ErrorCode::kDataLoss) << text;
    EXPECT_THAT(load_error().message, StartsWith(config));
  }
  write("tokenizer_config.json", "{}");
  write("chat_template.jinja", "line\n{% if %}");
  EXPECT_THAT(load_error().message, HasSubstr("chat_template.jinja: chat template, line 2: "));
}

}  // namespace
}  // namespace pregate::model
