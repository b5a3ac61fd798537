// The `loop` variable of a for block.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "model/chat/jinja/evaluator.h"

namespace pregate::model::jinja {

class Loop : public Object, public std::enable_shared_from_this<Loop> {
 public:
  /// `items`: what is walked, as a list. `level`: 0, or how deep in a recursive loop. `scope`: that
  /// of the for block; null unless it is recursive.
  Loop(Evaluator& evaluator, const For& node, Value items, int64_t level, ScopePtr scope);

  void move_to(size_t index) { index_ = index; }
  std::string_view type_name() const override { return "LoopContext"; }
  std::string repr() const override;
  bool is_callable() const override { return node_.is_recursive; }
  Value call(const Arguments& arguments) override;
  std::optional<Value> attribute(std::string_view name) const override;
  void clear() override { last_seen_ = Value(); }

 private:
  const std::vector<Value>& items() const { return items_.as_sequence()->items(); }
  std::optional<Value> position(std::string_view name) const;
  std::optional<Value> neighbour(std::string_view name) const;
  std::optional<Value> method(std::string_view name) const;
  Value cycle(const Arguments& arguments) const;
  Value changed(const Arguments& arguments);

  Evaluator& evaluator_;
  const For& node_;
  Value items_;
  int64_t level_;
  ScopePtr scope_;
  size_t index_ = 0;
  Value last_seen_;  // of changed(); none: not called yet
};

}  // namespace pregate::model::jinja
