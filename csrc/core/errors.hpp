// The exceptions of the core.
#pragma once

#include <stdexcept>

namespace fidfast {

/// Invalid input. The message names the argument. ValueError in Python.
struct InvalidInput : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

/// A numerical routine did not converge. RuntimeError in Python.
struct NumericalFailure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace fidfast
