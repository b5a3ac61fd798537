// The live page at / of a coordinator: files of this folder that lie in the program itself.
#pragma once

#include <span>
#include <string_view>

namespace pregate::coordinator {

struct PageFile {
  std::string_view path;  ///< As asked for: "/", "/page.js".
  std::string_view content_type;
  std::string_view text;
};

std::span<const PageFile> page_files();

}  // namespace pregate::coordinator
