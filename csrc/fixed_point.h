// Sums of reals as exact 64-bit integers: v -> round(v 2^k). Integer sums do not depend on order,
// so leaf values and start scores are the same for any split of the rows over threads and workers.
#pragma once

#include <stdint.h>

#include "elementary.h"

namespace qgbdt {

// e with v = m 2^e, m in [1/2, 1). v > 0, normal.
QGBDT_FN int frexp_exponent(double v) { return int(double_bits(v) >> 52) - 1022; }

// The largest k for which n values of at most max_abs sum to less than 2^63:
// n max_abs 2^k < 2^(exponent(n) + exponent(max_abs) + k) = 2^62, and rounding adds at most n/2.
QGBDT_FN int fixed_exponent(double max_abs, int64_t n) {
  if (!(max_abs > 0x1p-1000)) return 0;
  const int k = 62 - frexp_exponent(max_abs) - frexp_exponent(double(n));
  return k < 1000 ? k : 1000;
}

QGBDT_FN double power_of_two(int k) { return from_double_bits(int64_t(k + 1023) << 52); }

// `scale` is power_of_two(k). Rounds half to even.
QGBDT_FN int64_t to_fixed(double v, double scale) { return __builtin_llrint(v * scale); }
QGBDT_FN double from_fixed(int64_t sum, int k) { return double(sum) * power_of_two(-k); }

}  // namespace qgbdt
