// Filters ({{ value | name }}) and tests ({{ value is name }}).
#pragma once

#include <string_view>
#include <unordered_map>

#include "model/chat/jinja/arguments.h"
#include "model/chat/jinja/value.h"

namespace pregate::model::jinja {

using Filter = Value (*)(const Value& input, const Arguments& arguments);
using FilterTable = std::unordered_map<std::string_view, Filter>;
using Test = bool (*)(const Value& input, const Arguments& arguments);
using TestTable = std::unordered_map<std::string_view, Test>;

const FilterTable& filters();
const TestTable& tests();
/// Raise for a name that is not in the table.
Value apply_filter(std::string_view name, const Value& input, const Arguments& arguments);
bool apply_test(std::string_view name, const Value& input, const Arguments& arguments);

/// The parts of the table, by what the filters take.
void add_text_filters(FilterTable& table);
void add_sequence_filters(FilterTable& table);

}  // namespace pregate::model::jinja
