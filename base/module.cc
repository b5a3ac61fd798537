#include "base/module.h"

#include <algorithm>
#include <cstdlib>

#include <dlfcn.h>

namespace pregate {
namespace {

using Entry = const ModuleHead* (*)();

std::string list_of(const std::vector<std::filesystem::path>& paths) {
  std::string list;
  for (const auto& path : paths) list += (list.empty() ? "" : ", ") + path.string();
  return list;
}

bool exists(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

/// What dlopen() or dlsym() just complained of.
std::string complaint() {
  const char* const text = ::dlerror();
  return text == nullptr ? "no reason given" : text;
}

Status check_build(const std::filesystem::path& path, const ModuleHead& expected,
                   const ModuleHead& found) {
  if (found.abi == expected.abi && std::string_view(found.build_id) == expected.build_id) return {};
  const std::string other =
      found.abi == expected.abi ? found.build_id : fmt::format("interface {}", found.abi);
  return fail(ErrorCode::kUnimplemented,
              "{} is of another build of pregate ({}; expected {}): install both from the same one",
              path.string(), other, expected.build_id);
}

Result<const ModuleHead*> load_file(const ModuleKind& kind, const std::filesystem::path& path) {
  void* const library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return fail(ErrorCode::kUnimplemented, "the {} module cannot be loaded: {}", kind.name,
                complaint());
  }
  const auto entry = reinterpret_cast<Entry>(::dlsym(library, kind.entry));
  if (entry == nullptr) {
    return fail(ErrorCode::kUnimplemented, "{} is no {} module of pregate: {}", path.string(),
                kind.name, complaint());
  }
  const ModuleHead* const head = entry();
  PREGATE_TRY(check_build(path, kind.head, *head));
  return head;
}

}  // namespace

std::vector<std::filesystem::path> module_paths(const ModuleKind& kind) {
  const char* const given = std::getenv(kind.variable);
  if (given != nullptr && *given != '\0') return {given};
  std::error_code error;
  const auto folder = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  return {folder / kind.file_name, folder.parent_path() / "lib" / "pregate" / kind.file_name};
}

Result<const ModuleHead*> load_module(const ModuleKind& kind,
                                      const std::vector<std::filesystem::path>& paths) {
  const auto found = std::ranges::find_if(paths, exists);
  if (found == paths.end()) {
    return fail(ErrorCode::kUnimplemented, "no {} module: looked for {}; build pregate where {} is",
                kind.name, list_of(paths), kind.needs);
  }
  return load_file(kind, *found);
}

}  // namespace pregate
