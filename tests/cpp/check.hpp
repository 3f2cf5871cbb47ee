// Checks and the list of tests: enough of a test framework that nothing has to be fetched.
#pragma once

#include <cmath>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

namespace fidfast::check {

/// A test, which adds itself to the list of those of this executable, in their order.
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

/// Prints a failed check and counts it against the running test. For one thread at a time.
void fail(const char* file, int line, const std::string& message);

/// Runs the tests named in the arguments, or all, and says how many passed; the exit status of the program.
int run(const std::vector<std::string>& names);

inline void close(double a, double b, double tolerance, const char* text, const char* file, int line) {
  if (std::abs(a - b) <= tolerance) return;  // false where either is NaN
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

/// Defines a test; its name is a sentence that is true.
#define TEST(name)                                                   \
  static void test_##name();                                         \
  static fidfast::check::Test registered_##name(#name, test_##name); \
  static void test_##name()

#define CHECK(condition)                                                    \
  do {                                                                      \
    if (!(condition)) fidfast::check::fail(__FILE__, __LINE__, #condition); \
  } while (false)

/// |a - b| <= tolerance, which NaN never is.
#define CHECK_CLOSE(a, b, tolerance) fidfast::check::close(a, b, tolerance, #a " and " #b, __FILE__, __LINE__)

/// The expression throws the exception, whose message contains the part.
#define CHECK_THROWS(expression, Exception, part) \
  fidfast::check::throws<Exception>([&] { expression; }, part, #expression, __FILE__, __LINE__)
