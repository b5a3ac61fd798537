#include "model/chat/jinja/evaluator.h"

#include "model/chat/jinja/attributes.h"
#include "model/chat/jinja/evaluator_guards.h"
#include "model/chat/jinja/functions.h"
#include "model/chat/jinja/repr.h"

namespace pregate::model::jinja {
namespace {

Value function(std::string name, Function::Body body) {
  return ObjectPtr(std::make_shared<Function>(std::move(name), std::move(body)));
}

class Macro : public Object {
 public:
  Macro(Evaluator& evaluator, const MacroDefinition& definition, ScopePtr closure)
      : evaluator_(evaluator), definition_(definition), closure_(std::move(closure)) {}

  std::string_view type_name() const override { return "Macro"; }
  std::string repr() const override {
    return fmt::format("<Macro {}>", repr_text(definition_.name));
  }
  bool is_callable() const override { return true; }
  Value call(const Arguments& arguments) override {
    return evaluator_.call_macro(definition_, closure_, arguments);
  }
  std::optional<Value> attribute(std::string_view name) const override {
    return name == "name" ? std::optional<Value>(definition_.name) : std::nullopt;
  }

 private:
  Evaluator& evaluator_;
  const MacroDefinition& definition_;
  ScopePtr closure_;
};

}  // namespace

Evaluator::Evaluator() : scope_(std::make_shared<Scope>(nullptr)) {
  set_variable("range", function("range", range));
  set_variable("dict", function("dict", make_dict));
  set_variable("strftime_now", function("strftime_now", strftime_now));
  set_variable("raise_exception", function("raise_exception", [](const Arguments& arguments) {
                 raise_exception(arguments);
                 return Value();
               }));
  set_variable("namespace", function("namespace", [this](const Arguments& arguments) {
                 auto made = std::make_shared<Namespace>();
                 const Value attributes = make_dict(arguments);
                 for (const auto& [name, value] : attributes.as_dict()->entries()) {
                   if (name.as_text() == nullptr) raise("namespace() needs names");
                   made->set(*name.as_text(), value);
                 }
                 keep(made);
                 return Value(ObjectPtr(made));
               }));
}

Evaluator::~Evaluator() {
  for (const auto& object : kept_objects_) object->clear();
  for (const auto& scope : kept_scopes_) scope->clear();
}

std::string Evaluator::run(const Body& body) {
  std::string text;
  const OutputGuard output(*this, text);
  execute(body);
  return text;
}

Value Evaluator::make_macro(const MacroDefinition& macro) {
  kept_scopes_.push_back(scope_);
  return ObjectPtr(std::make_shared<Macro>(*this, macro, scope_));
}

Value Evaluator::call_macro(const MacroDefinition& macro, const ScopePtr& closure,
                            const Arguments& arguments) {
  const DepthGuard depth(*this);
  const ScopeGuard scope(*this, closure);
  bind_parameters(macro, arguments);
  bind_rest(macro, arguments);
  std::string text;
  const OutputGuard output(*this, text);
  execute(macro.body);
  return text;
}

/// Given values first, so that a default may refer to any of them.
void Evaluator::bind_parameters(const MacroDefinition& macro, const Arguments& arguments) {
  std::vector<const Parameter*> missing;
  for (size_t i = 0; i < macro.parameters.size(); ++i) {
    const Parameter& parameter = macro.parameters[i];
    const bool is_positional = i < arguments.positional.size();
    const Value* value =
        is_positional ? &arguments.positional[i] : arguments.keyword(parameter.name);
    if (value != nullptr) {
      scope_->set(parameter.name, *value);
    } else {
      missing.push_back(&parameter);
    }
  }
  for (const Parameter* parameter : missing) {
    scope_->set(parameter->name, parameter->fallback
                                     ? evaluate(*parameter->fallback)
                                     : Value::undefined(fmt::format(
                                           "parameter '{}' was not provided", parameter->name)));
  }
}

/// What is left over goes to caller, varargs and kwargs where the body names them.
void Evaluator::bind_rest(const MacroDefinition& macro, const Arguments& arguments) {
  const size_t count = macro.parameters.size();
  const auto is_parameter = [&](std::string_view name) {
    for (size_t i = arguments.positional.size(); i < count; ++i) {
      if (macro.parameters[i].name == name) return true;
    }
    return false;
  };
  std::vector<Value> varargs;
  for (size_t i = count; i < arguments.positional.size(); ++i) {
    varargs.push_back(arguments.positional[i]);
  }
  auto kwargs = std::make_shared<Dict>();
  Value caller = Value::undefined("No caller defined");
  const bool takes_caller = macro.uses_caller && !is_parameter("caller");
  for (const auto& [name, value] : arguments.keywords) {
    if (is_parameter(name)) continue;
    if (takes_caller && name == "caller") {
      caller = value;
    } else if (macro.uses_kwargs) {
      kwargs->set(name, value);
    } else {
      raise("macro '{}' takes no keyword argument '{}'", macro.name, name);
    }
  }
  if (takes_caller) scope_->set("caller", caller);
  if (macro.uses_kwargs) scope_->set("kwargs", DictPtr(std::move(kwargs)));
  if (!varargs.empty() && !macro.uses_varargs) {
    raise("macro '{}' takes not more than {} argument(s)", macro.name, count);
  }
  if (macro.uses_varargs) scope_->set("varargs", Value::tuple(std::move(varargs)));
}

void Evaluator::set_variable(const std::string& name, Value value) {
  input_units_ += value.units();
  scope_->set(name, std::move(value));
}

void Evaluator::charge_step() {
  const uint64_t limit = kMaxSteps + kStepsPerInputUnit * input_units_;
  if (++steps_ > limit) raise_exhausted("the template runs for more than {} steps", limit);
}

void Evaluator::charge(const Value& value, bool is_made) {
  const uint64_t units = value.units();
  steps_ += units / kUnitsPerStep;
  charge_step();
  if (is_made) made_bytes_ += units * kBytesPerUnit;
  const uint64_t limit = kMaxMadeBytes + kMadeBytesPerInputUnit * input_units_;
  if (made_bytes_ > limit) {
    raise_exhausted("the template makes more than {} bytes of values", limit);
  }
}

}  // namespace pregate::model::jinja
