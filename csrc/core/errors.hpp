// The two ways in which the core can fail. The bindings turn them into Python's exceptions.
#pragma once

#include <stdexcept>

namespace fidfast {

/// The caller's input cannot be used; the message names the argument and both numbers. A ValueError in Python.
struct InvalidInput : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

/// A numerical routine did not converge. A RuntimeError in Python.
struct NumericalFailure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace fidfast
