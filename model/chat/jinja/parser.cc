#include "model/chat/jinja/parser.h"

#include <algorithm>

#include "model/chat/jinja/failure.h"
#include "model/chat/jinja/parser_nesting.h"

namespace pregate::model::jinja {
namespace {

bool is_one_of(const Token& token, std::initializer_list<std::string_view> names) {
  return std::any_of(names.begin(), names.end(),
                     [&](std::string_view name) { return token.is_name(name); });
}

}  // namespace

Body parse(std::string_view source) { return Parser(tokenize(source)).parse_template(); }

Body Parser::parse_template() { return parse_body({}); }

const Token& Parser::ahead() const { return tokens_[std::min(position_ + 1, tokens_.size() - 1)]; }

Token Parser::next() {
  Token token = current();
  if (token.kind != TokenKind::kEnd) ++position_;
  return token;
}

bool Parser::skip_operator(std::string_view sign) {
  if (!current().is_operator(sign)) return false;
  next();
  return true;
}

bool Parser::skip_name(std::string_view name) {
  if (!current().is_name(name)) return false;
  next();
  return true;
}

void Parser::expect_operator(std::string_view sign) {
  if (!skip_operator(sign)) fail_expected(sign);
}

void Parser::expect_name(std::string_view name) {
  if (!skip_name(name)) fail_expected(name);
}

std::string Parser::expect_identifier() {
  if (current().kind != TokenKind::kName) fail_expected("name");
  return next().text;
}

void Parser::expect(TokenKind kind, std::string_view what) {
  if (current().kind != kind) fail_expected(what);
  next();
}

void Parser::fail_expected(std::string_view what) const {
  if (current().kind == TokenKind::kEnd) {
    raise_at(current().line, "unexpected end of template, expected '{}'", what);
  }
  raise_at(current().line, "expected token '{}', got '{}'", what, describe(current()));
}

void Parser::fail_tag(const Token& tag) const {
  const std::string hint =
      open_tags_.empty() ? ""
                         : fmt::format("; the innermost open block is '{}'", open_tags_.back());
  if (tag.kind == TokenKind::kEnd) raise_at(tag.line, "unexpected end of template{}", hint);
  raise_at(tag.line, "unknown or misplaced tag '{}'{}", tag.text, hint);
}

/// Statements up to a block that begins with one of `ends`; its name is then the current token.
Body Parser::parse_body(Names ends) {
  Body body;
  while (true) {
    const int line = current().line;
    if (current().kind == TokenKind::kData) {
      body.push_back({line, Text{next().text}});
    } else if (current().kind == TokenKind::kPrintBegin) {
      next();
      body.push_back({line, Print{parse_tuple(true, "", false)}});
      expect(TokenKind::kPrintEnd, "end of print statement");
    } else if (current().kind == TokenKind::kBlockBegin) {
      next();
      if (is_one_of(current(), ends)) return body;
      body.push_back(parse_statement());
      expect(TokenKind::kBlockEnd, "end of statement block");
    } else {
      if (ends.size() > 0) fail_tag(current());
      return body;
    }
  }
}

/// The end of the tag at hand and the statements after it. A colon may end the tag, as in Python.
Body Parser::parse_body_until(Names ends) {
  skip_operator(":");
  expect(TokenKind::kBlockEnd, "end of statement block");
  return parse_body(ends);
}

/// The same for a block with a single end tag, which is consumed. `loop_depth`: 0 where the body is
/// a function of its own, which a break cannot leave.
Body Parser::parse_block_of(std::string_view tag, int loop_depth) {
  const int outer_depth = std::exchange(loop_depth_, loop_depth);
  Body body = parse_body_until({tag});
  loop_depth_ = outer_depth;
  next();
  return body;
}

Statement Parser::parse_statement() {
  const Nesting nesting(*this);
  if (current().kind != TokenKind::kName) raise_at(current().line, "tag name expected");
  const Token tag = next();
  open_tags_.push_back(tag.text);
  Statement statement{tag.line, parse_tag(tag)};
  open_tags_.pop_back();
  return statement;
}

Statement::Node Parser::parse_tag(const Token& tag) {
  if (tag.text == "for") return parse_for();
  if (tag.text == "if") return parse_if();
  if (tag.text == "set") return parse_set();
  if (tag.text == "macro") return parse_macro();
  if (tag.text == "call") return parse_call_block();
  if (tag.text == "filter") return parse_filter_block();
  if (tag.text == "with") return parse_with();
  if (tag.text == "print") return parse_print();
  if (tag.text == "generation") return parse_generation();
  if (tag.text == "break" || tag.text == "continue") return parse_loop_control(tag);
  open_tags_.pop_back();
  fail_tag(tag);
}

Statement::Node Parser::parse_for() {
  For loop;
  loop.target = parse_target(false);
  expect_name("in");
  loop.iterable = parse_tuple(false, "recursive", false);
  if (skip_name("if")) loop.condition = parse_expression();
  loop.is_recursive = skip_name("recursive");
  ++loop_depth_;
  loop.body = parse_body_until({"endfor", "else"});
  --loop_depth_;
  if (next().text == "else") {
    loop.otherwise = parse_body_until({"endfor"});
    next();
  }
  return loop;
}

Statement::Node Parser::parse_if() {
  If node;
  while (true) {
    ExpressionPtr condition = parse_tuple(false, "", false);
    Body body = parse_body_until({"elif", "else", "endif"});
    node.branches.emplace_back(std::move(condition), std::move(body));
    const Token end = next();
    if (end.text == "elif") continue;
    if (end.text == "else") {
      node.otherwise = parse_body_until({"endif"});
      next();
    }
    return node;
  }
}

Statement::Node Parser::parse_set() {
  Target target = parse_target(true);
  if (skip_operator("=")) return Set{std::move(target), parse_tuple(true, "", false)};
  ExpressionPtr filter;
  while (skip_operator("|")) filter = parse_filter(std::move(filter));
  return SetBlock{std::move(target), std::move(filter), parse_block_of("endset", loop_depth_)};
}

Statement::Node Parser::parse_macro() {
  DefineMacro definition;
  definition.macro.name = expect_identifier();
  parse_signature(definition.macro);
  parse_macro_body(definition.macro, "endmacro");
  return definition;
}

Statement::Node Parser::parse_call_block() {
  CallBlock block;
  block.caller.name = "caller";
  if (current().is_operator("(")) parse_signature(block.caller);
  const int line = current().line;
  block.call = parse_expression();
  if (!std::holds_alternative<Call>(block.call->node)) raise_at(line, "expected call");
  parse_macro_body(block.caller, "endcall");
  return block;
}

void Parser::parse_macro_body(MacroDefinition& macro, std::string_view end) {
  open_macros_.push_back(&macro);
  macro.body = parse_block_of(end, 0);
  open_macros_.pop_back();
}

void Parser::parse_signature(MacroDefinition& macro) {
  expect_operator("(");
  while (!current().is_operator(")")) {
    if (!macro.parameters.empty()) expect_operator(",");
    Parameter parameter{expect_identifier(), nullptr};
    if (skip_operator("=")) {
      parameter.fallback = parse_expression();
    } else if (!macro.parameters.empty() && macro.parameters.back().fallback != nullptr) {
      raise_at(current().line, "non-default argument follows default argument");
    }
    macro.parameters.push_back(std::move(parameter));
  }
  next();
}

Statement::Node Parser::parse_filter_block() {
  ExpressionPtr filter = parse_filter(nullptr);
  while (skip_operator("|")) filter = parse_filter(std::move(filter));
  return FilterBlock{std::move(filter), parse_block_of("endfilter", loop_depth_)};
}

Statement::Node Parser::parse_with() {
  With block;
  while (current().kind != TokenKind::kBlockEnd) {
    if (!block.assignments.empty()) expect_operator(",");
    Target target = parse_single_target(false);
    expect_operator("=");
    block.assignments.emplace_back(std::move(target), parse_expression());
  }
  block.body = parse_block_of("endwith", loop_depth_);
  return block;
}

/// Marks what an assistant said, for training. Here it is only the scope that jinja2 gives it.
Statement::Node Parser::parse_generation() { return With{{}, parse_block_of("endgeneration", 0)}; }

Statement::Node Parser::parse_print() {
  std::vector<ExpressionPtr> parts;
  int depth = 0;
  const int line = current().line;
  while (current().kind != TokenKind::kBlockEnd) {
    if (!parts.empty()) expect_operator(",");
    parts.push_back(parse_expression());
    depth = std::max(depth, parts.back()->depth);
  }
  return Print{make(line, Concatenation{std::move(parts)}, depth)};
}

Statement::Node Parser::parse_loop_control(const Token& tag) {
  if (loop_depth_ == 0) raise_at(tag.line, "'{}' outside loop", tag.text);
  if (tag.text == "break") return Break{};
  return Continue{};
}

bool Parser::at_tuple_end(std::string_view end_name) const {
  return current().kind == TokenKind::kPrintEnd || current().kind == TokenKind::kBlockEnd ||
         current().is_operator(")") || (!end_name.empty() && current().is_name(end_name));
}

Target Parser::parse_target(bool with_namespace) {
  const Nesting nesting(*this);
  Target tuple{"", "", {}, true};
  while (!at_tuple_end("in")) {
    Target target = parse_single_target(with_namespace);
    const bool has_comma = skip_operator(",");
    if (!has_comma && tuple.items.empty()) return target;
    tuple.items.push_back(std::move(target));
    if (!has_comma) break;
  }
  if (tuple.items.empty()) {
    raise_at(current().line, "Expected an expression, got '{}'", describe(current()));
  }
  return tuple;
}

Target Parser::parse_single_target(bool with_namespace) {
  const int line = current().line;
  if (skip_operator("(")) {
    Target target = parse_target(with_namespace);
    expect_operator(")");
    return target;
  }
  if (current().kind != TokenKind::kName)
    raise_at(line, "can't assign to '{}'", describe(current()));
  Target target{next().text, "", {}, false};
  if (is_one_of({TokenKind::kName, line, target.name},
                {"true", "false", "none", "True", "False", "None"})) {
    raise_at(line, "can't assign to '{}'", target.name);
  }
  if (with_namespace && skip_operator(".")) target.attribute = expect_identifier();
  return target;
}

}  // namespace pregate::model::jinja
