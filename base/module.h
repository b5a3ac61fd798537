// Parts of the program in files of their own, which are loaded when they are asked for: what needs
// a library that not every machine has. C++ types cross between the two, so both must come from one
// build, which is checked before anything else of a module is read.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"

namespace pregate {

/// How every struct begins that a module's entry returns.
struct ModuleHead {
  uint32_t abi = 0;                ///< Another one when a head's meaning changes.
  const char* build_id = nullptr;  ///< Equal in a program and a module that fit.
};

/// What the program expects of a module.
struct ModuleKind {
  const char* name = nullptr;       ///< "CUDA", in messages.
  const char* file_name = nullptr;  ///< "pregate_cuda.so"
  const char* variable = nullptr;   ///< The environment variable that names another file.
  /// A function with C linkage that takes nothing and returns a `const ModuleHead*`, never null.
  const char* entry = nullptr;
  const char* needs = nullptr;  ///< "the CUDA toolkit": where it must be built.
  ModuleHead head;
};

/// Where the module may be: what the environment variable names; without it beside the program that
/// runs, then in ../lib/pregate from there.
std::vector<std::filesystem::path> module_paths(const ModuleKind& kind);

/// Loads the first of `paths` that exists; it is never unloaded. Error: kUnimplemented if there is
/// none, it is another build's or cannot be loaded.
Result<const ModuleHead*> load_module(const ModuleKind& kind,
                                      const std::vector<std::filesystem::path>& paths);

}  // namespace pregate
