// Tables of text, for people.
#pragma once

#include <string>
#include <vector>

namespace pregate::cli {

/// Columns as wide as their widest cell.
std::string format_table(const std::vector<std::vector<std::string>>& rows);

}  // namespace pregate::cli
