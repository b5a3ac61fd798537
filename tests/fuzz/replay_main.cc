// Runs a fuzz target once over each seed file of the folders given, where libFuzzer is not linked.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

int replay(const std::string& bytes) {
  return LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
}

std::vector<std::filesystem::path> files_of(const char* folder) {
  std::vector<std::filesystem::path> files;
  std::error_code missing;  // Then the list stays empty, and main() says so.
  for (const auto& entry : std::filesystem::directory_iterator(folder, missing)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

int main(int argc, char** argv) {
  replay("");
  size_t num_seeds = 0;
  for (int i = 1; i < argc; ++i) {
    for (const auto& path : files_of(argv[i])) {
      std::printf("%s\n", path.c_str());
      std::fflush(stdout);  // If the target aborts, its seed is the last line.
      std::ifstream file(path, std::ios::binary);
      replay({std::istreambuf_iterator<char>(file), {}});
      ++num_seeds;
    }
  }
  std::printf("%zu seeds\n", num_seeds);
  return num_seeds == 0 ? 1 : 0;
}
