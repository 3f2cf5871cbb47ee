// A minimal test framework, so that the tests have no dependencies.
#pragma once

#include <cmath>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

namespace fidfast::check {

/// A test, which adds itself to the list of tests of this executable.
struct Test {
  const char* name;
  void (*run)();
  const Test* next = nullptr;

  Test(const char* its_name, void (*its_run)()) noexcept : name(its_name), run(its_run) {
    (last != nullptr ? last->next : first) = this;
    last = this;
  }

  inline static const Test* first = nullptr;
  inline static Test* last = nullptr;
};

/// Prints a failed check and counts it for the running test. Not thread-safe.
void fail(const char* file, int line, const std::string& message);

/// Runs the named tests, or all, and prints how many passed. Returns the exit status.
int run(const std::vector<std::string>& names);

inline void close(double a, double b, double tolerance, const char* text, const char* file, int line) {
  if (std::abs(a - b) <= tolerance) return;  // false for NaN
  char numbers[128];
  std::snprintf(numbers, sizeof numbers, ": %.17g and %.17g differ by more than %.3g", a, b, tolerance);
  fail(file, line, std::string(text) + numbers);
}

template <class Exception, class Work>
void throws(Work work, const std::string& part, const char* text, const char* file, int line) {
  try {
    work();
  } catch (const Exception& error) {
    const std::string message = error.what();
    if (message.find(part) == std::string::npos) {
      fail(file, line, std::string(text) + " threw \"" + message + "\", which lacks \"" + part + "\"");
    }
    return;
  } catch (const std::exception& error) {
    fail(file, line, std::string(text) + " threw another exception: " + error.what());
    return;
  }
  fail(file, line, std::string(text) + " threw nothing");
}

}  // namespace fidfast::check

/// Defines a test.
#define TEST(name)                                                   \
  static void test_##name();                                         \
  static fidfast::check::Test registered_##name(#name, test_##name); \
  static void test_##name()

#define CHECK(condition)                                                    \
  do {                                                                      \
    if (!(condition)) fidfast::check::fail(__FILE__, __LINE__, #condition); \
  } while (false)

/// Checks |a - b| <= tolerance; fails for NaN.
#define CHECK_CLOSE(a, b, tolerance) fidfast::check::close(a, b, tolerance, #a " and " #b, __FILE__, __LINE__)

/// Checks that the expression throws the exception with a message that contains `part`.
#define CHECK_THROWS(expression, Exception, part) \
  fidfast::check::throws<Exception>([&] { expression; }, part, #expression, __FILE__, __LINE__)
