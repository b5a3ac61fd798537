// Tokens to syntax tree. The grammar is jinja2's, for one template: no inheritance, no includes.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "model/chat/jinja/ast.h"
#include "model/chat/jinja/lexer.h"

namespace pregate::model::jinja {

/// Raises a Failure with the line of what is wrong.
Body parse(std::string_view source);

/// Statements are in parser.cc, expressions in parser_expressions.cc.
class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}
  Body parse_template();

 private:
  using Names = std::initializer_list<std::string_view>;
  /// Counts the recursion of the parser itself.
  class Nesting;

  const Token& current() const { return tokens_[position_]; }
  const Token& ahead() const;
  Token next();
  bool skip_operator(std::string_view sign);
  bool skip_name(std::string_view name);
  void expect_operator(std::string_view sign);
  void expect_name(std::string_view name);
  std::string expect_identifier();
  void expect(TokenKind kind, std::string_view what);
  [[noreturn]] void fail_expected(std::string_view what) const;
  [[noreturn]] void fail_tag(const Token& tag) const;

  Body parse_body_until(Names ends);
  Body parse_body(Names ends);
  Body parse_block_of(std::string_view tag, int loop_depth);
  Statement parse_statement();
  Statement::Node parse_tag(const Token& tag);
  Statement::Node parse_for();
  Statement::Node parse_if();
  Statement::Node parse_set();
  Statement::Node parse_macro();
  Statement::Node parse_call_block();
  Statement::Node parse_filter_block();
  Statement::Node parse_with();
  Statement::Node parse_generation();
  Statement::Node parse_print();
  Statement::Node parse_loop_control(const Token& tag);
  void parse_signature(MacroDefinition& macro);
  void parse_macro_body(MacroDefinition& macro, std::string_view end);

  Target parse_target(bool with_namespace);
  Target parse_single_target(bool with_namespace);
  bool at_tuple_end(std::string_view end_name) const;

  ExpressionPtr make(int line, Expression::Node node, int depth_below) const;
  ExpressionPtr parse_expression(bool with_conditional = true);
  ExpressionPtr parse_tuple(bool with_conditional, std::string_view end_name, bool in_parentheses);
  ExpressionPtr parse_conditional();
  ExpressionPtr parse_or();
  ExpressionPtr parse_and();
  ExpressionPtr parse_not();
  ExpressionPtr parse_comparison();
  ExpressionPtr parse_sum();
  ExpressionPtr parse_concatenation();
  ExpressionPtr parse_product();
  ExpressionPtr parse_power();
  ExpressionPtr parse_unary(bool with_filters = true);
  ExpressionPtr parse_primary();
  ExpressionPtr parse_name();
  ExpressionPtr parse_list();
  ExpressionPtr parse_dict();
  ExpressionPtr parse_postfix(ExpressionPtr object);
  ExpressionPtr parse_filters_and_tests(ExpressionPtr input);
  ExpressionPtr parse_dot(ExpressionPtr object);
  ExpressionPtr parse_brackets(ExpressionPtr object);
  ExpressionPtr parse_slice(ExpressionPtr object, ExpressionPtr start, int line);
  ExpressionPtr parse_call(ExpressionPtr callee);
  ExpressionPtr parse_filter(ExpressionPtr input);
  ExpressionPtr parse_test(ExpressionPtr input);
  CallArguments parse_arguments();
  void parse_argument(CallArguments& arguments, int line);
  ExpressionPtr binary(BinaryKind kind, int line, ExpressionPtr left, ExpressionPtr right) const;

  std::vector<Token> tokens_;
  size_t position_ = 0;
  int nesting_ = 0;
  int loop_depth_ = 0;                         // within the macro at hand
  std::vector<MacroDefinition*> open_macros_;  // innermost last
  std::vector<std::string> open_tags_;         // for messages
};

}  // namespace pregate::model::jinja
