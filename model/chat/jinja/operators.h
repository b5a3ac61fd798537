// Python's operators.
#pragma once

#include "model/chat/jinja/ast.h"
#include "model/chat/jinja/value.h"

namespace pregate::model::jinja {

Value apply(BinaryKind kind, const Value& left, const Value& right);
bool compare(CompareKind kind, const Value& left, const Value& right);
Value negate(const Value& operand);
Value keep_sign(const Value& operand);
/// value in container.
bool contains(const Value& container, const Value& value);
/// object[start:stop:step]; none: left out.
Value slice(const Value& object, const Value& start, const Value& stop, const Value& step);

}  // namespace pregate::model::jinja
