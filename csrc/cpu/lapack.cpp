#include "cpu/lapack.hpp"

namespace fidfast::lapack {

namespace detail {
Routines<std::int32_t> narrow;
Routines<std::int64_t> wide;
IntegerWidth width = IntegerWidth::k32;
}  // namespace detail

namespace {

template <class Table>
void fill(Table& table, const Lookup& lookup) {
#define FIDFAST_LOOKUP(module, name, arguments) \
  table.name = reinterpret_cast<decltype(table.name)>(lookup(#module, #name));
  FIDFAST_ROUTINES(FIDFAST_LOOKUP)
#undef FIDFAST_LOOKUP
}

}  // namespace

void load(const Lookup& lookup, IntegerWidth width) {
  if (width == IntegerWidth::k64) {
    fill(detail::wide, lookup);
  } else {
    fill(detail::narrow, lookup);
  }
  detail::width = width;
}

}  // namespace fidfast::lapack
