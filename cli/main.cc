#include "cli/app.h"

int main(int argc, char** argv) {
  return pregate::cli::run_app({argv + 1, argv + argc}, pregate::cli::process_environment());
}
