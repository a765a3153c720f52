// exp and log whose every bit is ours: only IEEE additions, multiplications and divisions in a
// fixed order, so NumPy, every SIMD level and CUDA give the same bits. Within 2 ulp of the true
// value.
#pragma once

#include <stdint.h>

#include "support/inline.h"

namespace qgbdt {

constexpr double kLog2E = 1.4426950408889634;
constexpr double kLn2Hi = 6.93147180369123816490e-01;  // few enough bits that n * kLn2Hi is exact
constexpr double kLn2Lo = 1.90821492927058770002e-10;
constexpr double kToIntegerBits = 0x1.8p52;  // adding it leaves round(x) in the low mantissa bits
constexpr double kMaxExponent = 708.0;       // exp stays finite and normal

QGBDT_FN int64_t double_bits(double x) { return __builtin_bit_cast(int64_t, x); }
QGBDT_FN double from_double_bits(int64_t bits) { return __builtin_bit_cast(double, bits); }

// x = n ln 2 + r, exp(x) = 2^n exp(r), and exp(r) by its Taylor series: |r| < 0.35, so the first
// term left out is below 1e-17.
QGBDT_FN double exp(double x) {
  x = x < -kMaxExponent ? -kMaxExponent : x;
  x = x > kMaxExponent ? kMaxExponent : x;
  const double t = x * kLog2E + kToIntegerBits;
  const double n = t - kToIntegerBits;
  double r = x - n * kLn2Hi;
  r = r - n * kLn2Lo;
  constexpr double kInverseFactorial[14] = {1.0 / 6227020800.0,
                                            1.0 / 479001600.0,
                                            1.0 / 39916800.0,
                                            1.0 / 3628800.0,
                                            1.0 / 362880.0,
                                            1.0 / 40320.0,
                                            1.0 / 5040.0,
                                            1.0 / 720.0,
                                            1.0 / 120.0,
                                            1.0 / 24.0,
                                            1.0 / 6.0,
                                            1.0 / 2.0,
                                            1.0,
                                            1.0};
  double p = kInverseFactorial[0];
  QGBDT_UNROLL(13)
  for (int k = 1; k < 14; ++k) p = p * r + kInverseFactorial[k];
  return p * from_double_bits(int64_t(uint64_t(double_bits(t) + 1023) << 52));
}

// x = m 2^e with m in [sqrt(1/2), sqrt(2)), log m = 2 atanh((m - 1) / (m + 1)). x > 0, normal.
QGBDT_FN double log(double x) {
  const int64_t bits = double_bits(x);
  double m = from_double_bits((bits & 0x000fffffffffffff) | 0x3fe0000000000000);  // [1/2, 1)
  int64_t e = (bits >> 52) - 1022;
  if (m < 0.70710678118654752440) {
    m = m * 2;
    e = e - 1;
  }
  const double s = (m - 1) / (m + 1);
  const double z = s * s;
  constexpr double kInverseOdd[10] = {1.0 / 21, 1.0 / 19, 1.0 / 17, 1.0 / 15, 1.0 / 13,
                                      1.0 / 11, 1.0 / 9,  1.0 / 7,  1.0 / 5,  1.0 / 3};
  double p = kInverseOdd[0];
  QGBDT_UNROLL(9)
  for (int k = 1; k < 10; ++k) p = p * z + kInverseOdd[k];
  const double q = s + s * (z * p);
  return double(e) * kLn2Hi + (2.0 * q + double(e) * kLn2Lo);
}

QGBDT_FN double log2(double x) { return log(x) * kLog2E; }

}  // namespace qgbdt
