#include "model/chat/jinja/loop.h"

#include "model/chat/jinja/attributes.h"
#include "model/chat/jinja/failure.h"

namespace pregate::model::jinja {

Loop::Loop(Evaluator& evaluator, const For& node, Value items, int64_t level, ScopePtr scope)
    : Object(items.depth() + 1),
      evaluator_(evaluator),
      node_(node),
      items_(std::move(items)),
      level_(level),
      scope_(std::move(scope)) {}

std::string Loop::repr() const {
  return fmt::format("<LoopContext {}/{}>", index_ + 1, items().size());
}

Value Loop::call(const Arguments& arguments) {
  if (!node_.is_recursive) {
    raise("The loop must have the 'recursive' marker to be called recursively.");
  }
  const Bound bound("loop", arguments, {"iterable"}, 1);
  return evaluator_.call_loop(node_, scope_, bound.value(0), level_ + 1);
}

std::optional<Value> Loop::attribute(std::string_view name) const {
  if (auto value = position(name)) return value;
  if (auto value = neighbour(name)) return value;
  return method(name);
}

std::optional<Value> Loop::position(std::string_view name) const {
  const size_t count = items().size();
  if (name == "index") return Value(index_ + 1);
  if (name == "index0") return Value(index_);
  if (name == "first") return Value(index_ == 0);
  if (name == "last") return Value(index_ + 1 == count);
  if (name == "length") return Value(count);
  if (name == "revindex") return Value(count - index_);
  if (name == "revindex0") return Value(count - index_ - 1);
  if (name == "depth") return Value(level_ + 1);
  if (name == "depth0") return Value(level_);
  return std::nullopt;
}

std::optional<Value> Loop::neighbour(std::string_view name) const {
  if (name == "previtem") {
    return index_ > 0 ? items()[index_ - 1] : Value::undefined("there is no previous item");
  }
  if (name == "nextitem") {
    return index_ + 1 < items().size() ? items()[index_ + 1]
                                       : Value::undefined("there is no next item");
  }
  return std::nullopt;
}

std::optional<Value> Loop::method(std::string_view name) const {
  const auto self = std::const_pointer_cast<Loop>(shared_from_this());
  Function::Body body;
  if (name == "cycle") body = [self](const Arguments& arguments) { return self->cycle(arguments); };
  if (name == "changed") {
    body = [self](const Arguments& arguments) { return self->changed(arguments); };
  }
  if (!body) return std::nullopt;
  return ObjectPtr(std::make_shared<Function>(std::string(name), std::move(body), depth() + 1));
}

Value Loop::cycle(const Arguments& arguments) const {
  if (arguments.positional.empty()) raise("no items for cycling given");
  return arguments.positional[index_ % arguments.positional.size()];
}

Value Loop::changed(const Arguments& arguments) {
  if (last_seen_.is_none()) evaluator_.keep(shared_from_this());
  Value seen = Value::tuple(arguments.positional);
  if (!last_seen_.is_none() && equal(seen, last_seen_)) return false;
  last_seen_ = std::move(seen);
  return true;
}

}  // namespace pregate::model::jinja
