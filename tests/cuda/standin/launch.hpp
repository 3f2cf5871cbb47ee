// Kernels are run by callbacks outside of the stand-in.
#pragma once

#include <cstdint>

namespace standin {

// The sizes of the kernel's parameters in bytes, at most `capacity` of them. Returns their number, or -1 for an unknown
// kernel.
using ParameterSizes = int (*)(const char* kernel, std::uint64_t* sizes, int capacity);
// `dimensions` is (6,): grid and block. `arguments` are the bytes of all parameters. Returns 0, or 1 with the reason in
// `message`.
using RunKernel = int (*)(const char* kernel, const unsigned* dimensions, std::uint64_t shared_bytes,
                          const unsigned char* arguments, char* message, std::uint64_t message_bytes);

void set_launcher(ParameterSizes parameter_sizes, RunKernel run_kernel);

}  // namespace standin
