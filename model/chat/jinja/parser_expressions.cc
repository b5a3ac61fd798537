#include <algorithm>

#include "model/chat/jinja/failure.h"
#include "model/chat/jinja/parser.h"
#include "model/chat/jinja/parser_nesting.h"

namespace pregate::model::jinja {
namespace {

int depth_of(const ExpressionPtr& expression) { return expression ? expression->depth : 0; }

template <typename... Rest>
int depth_of(const ExpressionPtr& first, const Rest&... rest) {
  return std::max(depth_of(first), depth_of(rest...));
}

int depth_of(const std::vector<ExpressionPtr>& expressions) {
  int depth = 0;
  for (const auto& expression : expressions) depth = std::max(depth, depth_of(expression));
  return depth;
}

int depth_of(const CallArguments& arguments) {
  int depth =
      std::max(depth_of(arguments.positional), depth_of(arguments.star, arguments.double_star));
  for (const auto& [name, value] : arguments.keywords) depth = std::max(depth, depth_of(value));
  return depth;
}

std::optional<BinaryKind> product_kind(const Token& token) {
  if (token.is_operator("*")) return BinaryKind::kMultiply;
  if (token.is_operator("/")) return BinaryKind::kDivide;
  if (token.is_operator("//")) return BinaryKind::kFloorDivide;
  if (token.is_operator("%")) return BinaryKind::kModulo;
  return std::nullopt;
}

std::optional<CompareKind> compare_kind(const Token& token) {
  if (token.is_operator("==")) return CompareKind::kEqual;
  if (token.is_operator("!=")) return CompareKind::kNotEqual;
  if (token.is_operator("<")) return CompareKind::kLess;
  if (token.is_operator("<=")) return CompareKind::kLessEqual;
  if (token.is_operator(">")) return CompareKind::kGreater;
  if (token.is_operator(">=")) return CompareKind::kGreaterEqual;
  if (token.is_name("in")) return CompareKind::kIn;
  return std::nullopt;
}

}  // namespace

ExpressionPtr Parser::make(int line, Expression::Node node, int depth_below) const {
  if (depth_below >= kMaxSourceDepth) raise_at(line, "expression is too long or nested too deeply");
  return std::make_unique<Expression>(Expression{line, depth_below + 1, std::move(node)});
}

ExpressionPtr Parser::binary(BinaryKind kind, int line, ExpressionPtr left,
                             ExpressionPtr right) const {
  const int depth = depth_of(left, right);
  return make(line, Binary{kind, std::move(left), std::move(right)}, depth);
}

ExpressionPtr Parser::parse_expression(bool with_conditional) {
  const Nesting nesting(*this);
  return with_conditional ? parse_conditional() : parse_or();
}

/// One expression, or a tuple of those that commas separate.
ExpressionPtr Parser::parse_tuple(bool with_conditional, std::string_view end_name,
                                  bool in_parentheses) {
  const int line = current().line;
  std::vector<ExpressionPtr> items;
  while (!at_tuple_end(end_name)) {
    items.push_back(parse_expression(with_conditional));
    const bool has_comma = skip_operator(",");
    if (!has_comma && items.size() == 1) return std::move(items[0]);
    if (!has_comma) break;
  }
  if (items.empty() && !in_parentheses) {
    raise_at(current().line, "Expected an expression, got '{}'", describe(current()));
  }
  const int depth = depth_of(items);
  return make(line, ListLiteral{std::move(items), true}, depth);
}

ExpressionPtr Parser::parse_conditional() {
  const int line = current().line;
  ExpressionPtr then = parse_or();
  while (skip_name("if")) {
    ExpressionPtr condition = parse_or();
    ExpressionPtr otherwise;
    if (skip_name("else")) otherwise = parse_expression();
    const int depth = depth_of(then, condition, otherwise);
    then =
        make(line, Conditional{std::move(condition), std::move(then), std::move(otherwise)}, depth);
  }
  return then;
}

ExpressionPtr Parser::parse_or() {
  const int line = current().line;
  ExpressionPtr left = parse_and();
  while (skip_name("or")) {
    ExpressionPtr right = parse_and();
    const int depth = depth_of(left, right);
    left = make(line, Logical{false, std::move(left), std::move(right)}, depth);
  }
  return left;
}

ExpressionPtr Parser::parse_and() {
  const int line = current().line;
  ExpressionPtr left = parse_not();
  while (skip_name("and")) {
    ExpressionPtr right = parse_not();
    const int depth = depth_of(left, right);
    left = make(line, Logical{true, std::move(left), std::move(right)}, depth);
  }
  return left;
}

ExpressionPtr Parser::parse_not() {
  const Nesting nesting(*this);
  const int line = current().line;
  if (!skip_name("not")) return parse_comparison();
  ExpressionPtr operand = parse_not();
  const int depth = depth_of(operand);
  return make(line, Unary{Unary::Kind::kNot, std::move(operand)}, depth);
}

ExpressionPtr Parser::parse_comparison() {
  const int line = current().line;
  Comparison comparison{parse_sum(), {}};
  int depth = depth_of(comparison.first);
  while (true) {
    auto kind = compare_kind(current());
    if (!kind && current().is_name("not") && ahead().is_name("in")) {
      next();
      kind = CompareKind::kNotIn;
    }
    if (!kind) break;
    next();
    comparison.rest.emplace_back(*kind, parse_sum());
    depth = std::max(depth, depth_of(comparison.rest.back().second));
  }
  if (comparison.rest.empty()) return std::move(comparison.first);
  return make(line, std::move(comparison), depth);
}

ExpressionPtr Parser::parse_sum() {
  const int line = current().line;
  ExpressionPtr left = parse_concatenation();
  while (current().is_operator("+") || current().is_operator("-")) {
    const auto kind = next().text == "+" ? BinaryKind::kAdd : BinaryKind::kSubtract;
    left = binary(kind, line, std::move(left), parse_concatenation());
  }
  return left;
}

ExpressionPtr Parser::parse_concatenation() {
  const int line = current().line;
  std::vector<ExpressionPtr> parts;
  parts.push_back(parse_product());
  while (skip_operator("~")) parts.push_back(parse_product());
  if (parts.size() == 1) return std::move(parts[0]);
  const int depth = depth_of(parts);
  return make(line, Concatenation{std::move(parts)}, depth);
}

ExpressionPtr Parser::parse_product() {
  const int line = current().line;
  ExpressionPtr left = parse_power();
  while (const auto kind = product_kind(current())) {
    next();
    left = binary(*kind, line, std::move(left), parse_power());
  }
  return left;
}

/// Groups from the left, as jinja2 does and Python does not.
ExpressionPtr Parser::parse_power() {
  const int line = current().line;
  ExpressionPtr left = parse_unary();
  while (skip_operator("**")) {
    left = binary(BinaryKind::kPower, line, std::move(left), parse_unary());
  }
  return left;
}

ExpressionPtr Parser::parse_unary(bool with_filters) {
  const Nesting nesting(*this);
  const int line = current().line;
  ExpressionPtr node;
  if (current().is_operator("-") || current().is_operator("+")) {
    const auto kind = next().text == "-" ? Unary::Kind::kNegative : Unary::Kind::kPositive;
    ExpressionPtr operand = parse_unary(false);
    const int depth = depth_of(operand);
    node = make(line, Unary{kind, std::move(operand)}, depth);
  } else {
    node = parse_primary();
  }
  node = parse_postfix(std::move(node));
  return with_filters ? parse_filters_and_tests(std::move(node)) : std::move(node);
}

ExpressionPtr Parser::parse_primary() {
  const int line = current().line;
  if (current().kind == TokenKind::kName) return parse_name();
  if (current().kind == TokenKind::kNumber) return make(line, Literal{next().number}, 0);
  if (current().kind == TokenKind::kString) {
    std::string text;
    while (current().kind == TokenKind::kString) text += next().text;
    return make(line, Literal{std::move(text)}, 0);
  }
  if (skip_operator("(")) {
    ExpressionPtr inner = parse_tuple(true, "", true);
    expect_operator(")");
    return inner;
  }
  if (current().is_operator("[")) return parse_list();
  if (current().is_operator("{")) return parse_dict();
  raise_at(line, "unexpected '{}'", describe(current()));
}

ExpressionPtr Parser::parse_name() {
  const Token token = next();
  const std::string& name = token.text;
  if (name == "true" || name == "True") return make(token.line, Literal{true}, 0);
  if (name == "false" || name == "False") return make(token.line, Literal{false}, 0);
  if (name == "none" || name == "None") return make(token.line, Literal{}, 0);
  for (MacroDefinition* macro : open_macros_) {
    macro->uses_caller |= name == "caller";
    macro->uses_varargs |= name == "varargs";
    macro->uses_kwargs |= name == "kwargs";
  }
  return make(token.line, Name{name}, 0);
}

ExpressionPtr Parser::parse_list() {
  const int line = next().line;
  std::vector<ExpressionPtr> items;
  while (!current().is_operator("]")) {
    if (!items.empty()) expect_operator(",");
    if (current().is_operator("]")) break;
    items.push_back(parse_expression());
  }
  next();
  const int depth = depth_of(items);
  return make(line, ListLiteral{std::move(items), false}, depth);
}

ExpressionPtr Parser::parse_dict() {
  const int line = next().line;
  DictLiteral dict;
  int depth = 0;
  while (!current().is_operator("}")) {
    if (!dict.entries.empty()) expect_operator(",");
    if (current().is_operator("}")) break;
    ExpressionPtr key = parse_expression();
    expect_operator(":");
    ExpressionPtr value = parse_expression();
    depth = std::max(depth, depth_of(key, value));
    dict.entries.emplace_back(std::move(key), std::move(value));
  }
  next();
  return make(line, std::move(dict), depth);
}

ExpressionPtr Parser::parse_postfix(ExpressionPtr object) {
  while (true) {
    if (current().is_operator(".")) {
      object = parse_dot(std::move(object));
    } else if (current().is_operator("[")) {
      object = parse_brackets(std::move(object));
    } else if (current().is_operator("(")) {
      object = parse_call(std::move(object));
    } else {
      return object;
    }
  }
}

ExpressionPtr Parser::parse_filters_and_tests(ExpressionPtr input) {
  while (true) {
    if (skip_operator("|")) {
      input = parse_filter(std::move(input));
    } else if (current().is_name("is")) {
      input = parse_test(std::move(input));
    } else if (current().is_operator("(")) {
      input = parse_call(std::move(input));
    } else {
      return input;
    }
  }
}

ExpressionPtr Parser::parse_dot(ExpressionPtr object) {
  const int line = next().line;
  const int depth = depth_of(object);
  const Token name = next();
  if (name.kind == TokenKind::kName) {
    return make(line, AttributeAccess{std::move(object), name.text}, depth);
  }
  if (name.kind != TokenKind::kNumber || name.number.as_integer() == nullptr) {
    raise_at(name.line, "expected name or number");
  }
  ExpressionPtr key = make(name.line, Literal{name.number}, 0);
  return make(line, ItemAccess{std::move(object), std::move(key)}, depth);
}

/// object[key], object[a, b] or object[start:stop:step].
ExpressionPtr Parser::parse_brackets(ExpressionPtr object) {
  const int line = next().line;
  if (skip_operator(":")) return parse_slice(std::move(object), nullptr, line);
  std::vector<ExpressionPtr> keys;
  do {
    keys.push_back(parse_expression());
    if (keys.size() == 1 && skip_operator(":")) {
      return parse_slice(std::move(object), std::move(keys[0]), line);
    }
  } while (skip_operator(","));
  expect_operator("]");
  const int keys_depth = depth_of(keys);
  ExpressionPtr key = keys.size() == 1 ? std::move(keys[0])
                                       : make(line, ListLiteral{std::move(keys), true}, keys_depth);
  const int depth = depth_of(object, key);
  return make(line, ItemAccess{std::move(object), std::move(key)}, depth);
}

ExpressionPtr Parser::parse_slice(ExpressionPtr object, ExpressionPtr start, int line) {
  const auto at_end = [&] { return current().is_operator("]") || current().is_operator(":"); };
  ExpressionPtr stop;
  ExpressionPtr step;
  if (!at_end()) stop = parse_expression();
  if (skip_operator(":") && !at_end()) step = parse_expression();
  expect_operator("]");
  const int depth = std::max(depth_of(object), depth_of(start, stop, step));
  return make(line,
              SliceAccess{std::move(object), std::move(start), std::move(stop), std::move(step)},
              depth);
}

ExpressionPtr Parser::parse_call(ExpressionPtr callee) {
  const int line = current().line;
  CallArguments arguments = parse_arguments();
  const int depth = std::max(depth_of(callee), depth_of(arguments));
  return make(line, Call{std::move(callee), std::move(arguments)}, depth);
}

/// After the "|". `input` is null for the first filter of a block.
ExpressionPtr Parser::parse_filter(ExpressionPtr input) {
  const int line = current().line;
  std::string name = expect_identifier();
  while (skip_operator(".")) name.append(1, '.').append(expect_identifier());
  CallArguments arguments;
  if (current().is_operator("(")) arguments = parse_arguments();
  const int depth = std::max(depth_of(input), depth_of(arguments));
  return make(line, FilterCall{std::move(input), std::move(name), std::move(arguments)}, depth);
}

/// At the "is". An argument may stand without parentheses: "x is divisibleby 3".
ExpressionPtr Parser::parse_test(ExpressionPtr input) {
  const int line = next().line;
  const bool is_negated = skip_name("not");
  std::string name = expect_identifier();
  while (skip_operator(".")) name.append(1, '.').append(expect_identifier());
  CallArguments arguments;
  const Token& token = current();
  const bool is_word = token.kind == TokenKind::kName && !token.is_name("else") &&
                       !token.is_name("or") && !token.is_name("and");
  if (token.is_operator("(")) {
    arguments = parse_arguments();
  } else if (is_word || token.kind == TokenKind::kString || token.kind == TokenKind::kNumber ||
             token.is_operator("[") || token.is_operator("{")) {
    if (token.is_name("is")) raise_at(token.line, "You cannot chain multiple tests with is");
    arguments.positional.push_back(parse_postfix(parse_primary()));
  }
  const int depth = std::max(depth_of(input), depth_of(arguments));
  ExpressionPtr test =
      make(line, TestCall{std::move(input), std::move(name), std::move(arguments)}, depth);
  if (!is_negated) return test;
  return make(line, Unary{Unary::Kind::kNot, std::move(test)}, depth + 1);
}

CallArguments Parser::parse_arguments() {
  const int line = current().line;
  expect_operator("(");
  CallArguments arguments;
  bool needs_comma = false;
  while (!current().is_operator(")")) {
    if (needs_comma) expect_operator(",");
    if (current().is_operator(")")) break;
    parse_argument(arguments, line);
    needs_comma = true;
  }
  next();
  return arguments;
}

void Parser::parse_argument(CallArguments& arguments, int line) {
  const auto require = [&](bool is_valid) {
    if (!is_valid) raise_at(line, "invalid syntax for function call expression");
  };
  if (skip_operator("*")) {
    require(!arguments.star && !arguments.double_star);
    arguments.star = parse_expression();
  } else if (skip_operator("**")) {
    require(!arguments.double_star);
    arguments.double_star = parse_expression();
  } else if (current().kind == TokenKind::kName && ahead().is_operator("=")) {
    require(!arguments.double_star);
    std::string name = next().text;
    next();
    arguments.keywords.emplace_back(std::move(name), parse_expression());
  } else {
    require(!arguments.star && !arguments.double_star && arguments.keywords.empty());
    arguments.positional.push_back(parse_expression());
  }
}

}  // namespace pregate::model::jinja
