// Variables, by block.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "model/chat/jinja/value.h"

namespace pregate::model::jinja {

class Scope;
using ScopePtr = std::shared_ptr<Scope>;

/// Assigning in a block shadows what is outside; only bodies of `if` have no scope of their own.
class Scope {
 public:
  explicit Scope(ScopePtr parent) : parent_(std::move(parent)) {}

  const Value* find(std::string_view name) const {
    for (const Scope* scope = this; scope != nullptr; scope = scope->parent_.get()) {
      const auto place = scope->variables_.find(name);
      if (place != scope->variables_.end()) return &place->second;
    }
    return nullptr;
  }
  void set(const std::string& name, Value value) {
    variables_.insert_or_assign(name, std::move(value));
  }
  void clear() { variables_.clear(); }

 private:
  ScopePtr parent_;
  std::map<std::string, Value, std::less<>> variables_;
};

}  // namespace pregate::model::jinja
