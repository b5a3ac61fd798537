// Look-ahead by name.
#pragma once

#include <memory>
#include <string>

#include "compute/backend.h"
#include "router/lookahead/moe_layers.h"

namespace pregate::router {

/// What sources are made of. What is referred to must outlive them.
struct LookaheadParts {
  MoeLayers moe;
  compute::Backend& backend;
  const Router& router;
  std::vector<const compute::PackedMatrix*> gates;  ///< [layer]; null where there is none.
};

struct LookaheadOptions {
  std::string source = "none";  ///< none, auto, next_gate, transitions, pregate or replay:FILE.
  size_t depth = 1;             ///< Of next_gate: layers ahead.
};

/// Whether there may be such a source: kInvalidArgument with the known names.
Status check_source(const std::string& source);

/// Null for none, and for models without experts. auto: pregate where the router decides all layers
/// ahead, else next_gate. Errors: kInvalidArgument where the model cannot have this source, and
/// read_trace()'s.
Result<std::unique_ptr<Lookahead>> make_lookahead(const LookaheadOptions& options,
                                                  const LookaheadParts& parts);

}  // namespace pregate::router
