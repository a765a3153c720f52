// exp, log and the normal distribution whose every bit is ours: only IEEE additions,
// multiplications and divisions in a fixed order, so NumPy, every SIMD level and CUDA give the same
// bits. exp and log are within 2 ulp of the true value.
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

QGBDT_FN double finite_log(double x) { return log(x < 1e-300 ? 1e-300 : x); }

// ---- The standard normal distribution

// The tail beyond x >= 0 over the density at x. As Shepherd and Laframboise, "Chebyshev
// approximation of (1 + 2x) exp(x^2) erfc x in 0 <= x < inf" (Math. Comp. 36, 1981): (1 + x) times
// it is a polynomial in (x - 5) / (x + 5). This one is the Chebyshev series of 24 terms, computed
// with 50 digits and written in powers; relative error below 4e-16.
QGBDT_FN double mills_ratio(double x) {
  constexpr double kOfPowers[24] = {
      -9.5648329347125513e-10, -7.0738985755615885e-10, 1.1032071151574336e-08,
      9.0924761340191469e-09,  -7.7585202367863426e-08, -6.5889744911089537e-08,
      4.9199623314783404e-07,  3.2054316652589574e-07,  -3.2772876332088651e-06,
      -1.7633239265736746e-07, 2.2709612709237681e-05,  -2.480583845192319e-05,
      -0.0001343742785571135,  0.00045704392357953655,  1.9530638370790786e-05,
      -0.0042012903291873066,  0.016348231281029382,    -0.038026592185841389,
      0.061505045840186498,    -0.066177600779096304,   0.025072179301638801,
      0.077781598868737686,    -0.22948753825211315,    1.1568486282918946};
  const double t = 1.0 - 10.0 / (x + 5.0);
  double p = kOfPowers[0];
  QGBDT_UNROLL(23)
  for (int k = 1; k < 24; ++k) p = p * t + kOfPowers[k];
  return p / (1.0 + x);
}

QGBDT_FN double normal_density(double z) {
  constexpr double kAtZero = 0.39894228040143268;  // 1 / sqrt(2 pi)
  return kAtZero * exp(-0.5 * (z * z));
}

// The tail beyond z.
QGBDT_FN double normal_survival(double z) {
  const double tail = normal_density(z) * mills_ratio(__builtin_fabs(z));
  return z < 0 ? 1.0 - tail : tail;
}

// The density at z over the tail beyond, which a quotient of the two would not have far out.
QGBDT_FN double normal_hazard(double z) {
  const double ratio = mills_ratio(__builtin_fabs(z)), density = normal_density(z);
  return z < 0 ? density / (1.0 - density * ratio) : 1.0 / ratio;
}

}  // namespace qgbdt
