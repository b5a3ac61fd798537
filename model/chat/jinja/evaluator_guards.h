// What the evaluator puts back when a block ends, also when it ends by a failure.
#pragma once

#include <utility>

#include "model/chat/jinja/evaluator.h"
#include "model/chat/jinja/failure.h"
#include "model/chat/jinja/limits.h"

namespace pregate::model::jinja {

class Evaluator::DepthGuard {
 public:
  explicit DepthGuard(Evaluator& evaluator) : depth_(evaluator.depth_) {
    if (depth_ >= kMaxCallDepth) raise_exhausted("maximum recursion depth exceeded");
    ++depth_;
  }
  ~DepthGuard() { --depth_; }
  DepthGuard(const DepthGuard&) = delete;
  DepthGuard& operator=(const DepthGuard&) = delete;

 private:
  int& depth_;
};

/// A new scope within `parent`, current while this lives.
class Evaluator::ScopeGuard {
 public:
  ScopeGuard(Evaluator& evaluator, const ScopePtr& parent)
      : evaluator_(evaluator),
        outer_(std::exchange(evaluator.scope_, std::make_shared<Scope>(parent))) {}
  ~ScopeGuard() { evaluator_.scope_ = std::move(outer_); }
  ScopeGuard(const ScopeGuard&) = delete;
  ScopeGuard& operator=(const ScopeGuard&) = delete;

 private:
  Evaluator& evaluator_;
  ScopePtr outer_;
};

class Evaluator::OutputGuard {
 public:
  OutputGuard(Evaluator& evaluator, std::string& text)
      : evaluator_(evaluator), outer_(std::exchange(evaluator.out_, &text)) {}
  ~OutputGuard() { evaluator_.out_ = outer_; }
  OutputGuard(const OutputGuard&) = delete;
  OutputGuard& operator=(const OutputGuard&) = delete;

 private:
  Evaluator& evaluator_;
  std::string* outer_;
};

}  // namespace pregate::model::jinja
