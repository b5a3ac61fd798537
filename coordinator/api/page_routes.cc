#include "coordinator/api/page_routes.h"

#include <algorithm>
#include <string>

#include "coordinator/page/page.h"

namespace pregate::coordinator {
namespace {

constexpr const char* kPolicy =
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PageFile* find_file(std::string_view path) {
  const auto files = page_files();
  const auto found = std::ranges::find(files, path, &PageFile::path);
  return found == files.end() ? nullptr : &*found;
}

}  // namespace

bool is_page_path(std::string_view path) { return find_file(path) != nullptr; }

std::optional<HttpResponse> answer_page(std::string_view path) {
  const PageFile* file = find_file(path);
  if (file == nullptr) return std::nullopt;
  return HttpResponse{.content_type = std::string(file->content_type),
                      .headers = {{"Cache-Control", "no-cache"},
                                  {"Content-Security-Policy", kPolicy},
                                  {"Referrer-Policy", "no-referrer"},
                                  {"X-Content-Type-Options", "nosniff"}},
                      .body = std::string(file->text)};
}

}  // namespace pregate::coordinator
