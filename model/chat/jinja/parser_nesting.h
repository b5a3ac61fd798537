// Bounds the recursion of the parser.
#pragma once

#include "model/chat/jinja/failure.h"
#include "model/chat/jinja/limits.h"
#include "model/chat/jinja/parser.h"

namespace pregate::model::jinja {

class Parser::Nesting {
 public:
  explicit Nesting(Parser& parser) : parser_(parser) {
    if (++parser_.nesting_ > kMaxSourceDepth) {
      const int line = parser_.current().line;
      --parser_.nesting_;
      raise_at(line, "nested too deeply");
    }
  }
  ~Nesting() { --parser_.nesting_; }
  Nesting(const Nesting&) = delete;
  Nesting& operator=(const Nesting&) = delete;

 private:
  Parser& parser_;
};

}  // namespace pregate::model::jinja
