// Loads the BLAS given by the environment and runs the tests of the executable.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "blas.hpp"
#include "check.hpp"

namespace fidfast::check {

namespace {
int failures_of_test = 0;
}

void fail(const char* file, int line, const std::string& message) {
  ++failures_of_test;
  std::printf("%s:%d: %s\n", file, line, message.c_str());
}

int run(const std::vector<std::string>& names) {
  const auto is_named = [&](const Test& test) {
    return names.empty() || std::find(names.begin(), names.end(), test.name) != names.end();
  };
  int passed = 0;
  int failed = 0;
  for (const Test* next = Test::first; next != nullptr; next = next->next) {
    const Test& test = *next;
    if (!is_named(test)) continue;
    failures_of_test = 0;
    try {
      test.run();
    } catch (const std::exception& error) {
      fail(test.name, 0, std::string("threw ") + error.what());
    }
    if (failures_of_test > 0) std::printf("FAILED %s\n", test.name);
    ++(failures_of_test > 0 ? failed : passed);
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  // A misspelt name must not succeed.
  return failed == 0 && passed > 0 ? 0 : 1;
}

}  // namespace fidfast::check

int main(int argc, char** argv) {
  try {
    fidfast::load_blas_of_environment();
    return fidfast::check::run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
}
