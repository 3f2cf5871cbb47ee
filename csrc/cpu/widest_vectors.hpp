// Loops that are compiled for several vector widths, selected at run time.
#pragma once

namespace fidfast {

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)

namespace detail {

template <class Work>
__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl"), flatten)) void in_avx512(const Work& work) {
  work();
}
template <class Work>
__attribute__((target("avx2"), flatten)) void in_avx2(const Work& work) {
  work();
}

}  // namespace detail

/// Calls work(), compiled for the widest vectors of this processor.
template <class Work>
void in_widest_vectors(const Work& work) {
  static const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  static const bool avx2 = __builtin_cpu_supports("avx2");
  if (avx512) {
    detail::in_avx512(work);
  } else if (avx2) {
    detail::in_avx2(work);
  } else {
    work();
  }
}

#else

template <class Work>
void in_widest_vectors(const Work& work) {
  work();
}

#endif

}  // namespace fidfast
