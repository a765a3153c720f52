// Gradients to small integers (Shi et al., "Quantized Training of Gradient Boosting Decision
// Trees", NeurIPS 2022, section 4): equal intervals, one scale per tree and output, stochastic
// rounding.
//
// The paper's scale is max|g| / (2^(B-1) - 1). With heavy tails, or when most rows are fitted and
// few are not, the bulk then rounds to noise. Here the B bits span kBulk root mean squares instead
// (never more than the largest magnitude), and outliers run beyond, up to what a byte holds:
// nothing is cut off, so rounding stays unbiased.
//
// No accumulator can overflow, by construction. A gradient has at most max_levels in magnitude, a
// hessian at most 2 * max_levels, and max_levels(bits, n) keeps n * 2 * max_levels below 2^31 for
// the n rows of all workers: every sum of any subset of the rows fits the 32-bit halves of a
// HistCell. (More rows than 2^31 / 2^8 lose levels, not safety: docs/decisions/0003.) A packed
// 16 + 16 bit lane is flushed after rows_per_flush rows.
#pragma once

#include <stdint.h>

#include "fixed_point.h"
#include "support/rng.h"
#include "types.h"

namespace qgbdt {

constexpr int64_t kMaxCellSum = INT32_MAX;
constexpr int kByteBits = 8;  // up to here a gradient is stored in a byte
constexpr double kBulk = 4;   // root mean squares that the bits span: a normal bulk, whole

QGBDT_FN int64_t levels_of_bits(int bits) { return (int64_t(1) << (bits - 1)) - 1; }

// What storage and the 32-bit sums of n rows allow.
QGBDT_FN int32_t max_levels(int bits, int64_t n_samples) {
  const int64_t storable = levels_of_bits(bits > kByteBits ? bits : kByteBits);
  const int64_t safe = kMaxCellSum / (2 * (n_samples > 1 ? n_samples : 1));
  return int32_t(storable < safe ? storable : safe);
}

// From the counts per power of two, as if values lay evenly between 2^e and 2^(e+1).
constexpr double kMeanSquareMantissa = 7.0 / 3.0;

QGBDT_FN double root_mean_square(const Magnitudes& values, int64_t n) {
  double sum = 0;
  for (int e = 1; e < 255; ++e) sum += double(values.counts[e]) * power_of_two(2 * (e - 127));
  return __builtin_sqrt(sum * kMeanSquareMantissa / double(n));
}

struct Scale {  // real = integer * step
  double step, inverse;
  int32_t levels;  // the largest integer
};

// `levels` for the bulk, at most `most` for outliers.
QGBDT_FN Scale choose_scale(const Magnitudes& values, int64_t n, int32_t levels, int32_t most) {
  if (!(values.max > 0)) return {0.0, 0.0, 1};
  const double coarsest = values.max / levels, finest = values.max / most;
  double step = kBulk * root_mean_square(values, n) / levels;
  step = step < finest ? finest : step;
  step = step > coarsest ? coarsest : step;
  const double inverse = 1.0 / step;
  const double reach = values.max * inverse - 1e-6;  // less than a level above is clamped
  int32_t used = int32_t(reach);
  used += double(used) < reach;
  return {step, inverse, used < most ? used : most};
}

QGBDT_FN double floor_small(double x) {  // |x| < 2^31; vectorizes on every level
  const double t = double(int32_t(x));
  return t > x ? t - 1.0 : t;
}

// The variance of stochastic rounding is f (1 - f), f the fraction: its integral from 0 to x >= 0.
QGBDT_FN double rounding_integral(double x) {
  const double whole = floor_small(x);
  const double f = x - whole;
  return whole * (1.0 / 6.0) + f * f * (0.5 - f * (1.0 / 3.0));
}

// The variance of rounding as a share of the values' mean square; from the counts, as above.
QGBDT_FN double rounding_noise(const Magnitudes& values, const Scale& scale) {
  double noise = 0, square = 0;
  for (int e = 1; e < 255; ++e) {
    if (!values.counts[e]) continue;
    const double low = power_of_two(e - 127) * scale.inverse;
    noise +=
        double(values.counts[e]) * ((rounding_integral(2.0 * low) - rounding_integral(low)) / low);
    square += double(values.counts[e]) * (low * low);
  }
  return square > 0 ? noise / (square * kMeanSquareMantissa) : 0;
}

QGBDT_FN Scale gradient_scale(const GradientRange& range, int64_t n, int bits) {
  const int32_t most = max_levels(bits, n), levels = int32_t(levels_of_bits(bits));
  return choose_scale(range.gradient, n, levels < most ? levels : most, most);
}
QGBDT_FN Scale hessian_scale(const GradientRange& range, int64_t n, int bits) {  // it has no sign
  const int32_t most = max_levels(bits, n), levels = int32_t(levels_of_bits(bits));
  return choose_scale(range.hessian, n, 2 * (levels < most ? levels : most), 2 * most);
}

// The fewest bits whose rounding noise is at most kNoiseShare: where a node's cuts are compared,
// that noise adds to the gradients' own as if the node had 1 / (1 + share) of its rows.
constexpr double kNoiseShare = 0.2;

QGBDT_FN int choose_bits(const GradientRange& range, int64_t n) {
  int bits = 2;
  while (bits < kByteBits &&
         rounding_noise(range.gradient, gradient_scale(range, n, bits)) > kNoiseShare)
    ++bits;
  return bits;
}

// A quantized row is one word: gradient in the upper half (signed), hessian in the lower
// (unsigned).
using Pair8 = uint16_t;   // up to 8 bits: gradient +-127, hessian 0..254
using Pair16 = uint32_t;  // 16 bits: gradient +-32767, hessian 0..65534

QGBDT_FN void pack_pair(int32_t g, int32_t h, Pair8* out) {
  *out = Pair8(((uint32_t(g) & 0xffu) << 8) | uint32_t(h));
}
QGBDT_FN void pack_pair(int32_t g, int32_t h, Pair16* out) {
  *out = (uint32_t(g) << 16) | uint32_t(h);
}

// The same pair widened to the lane in which a histogram kernel adds it.
QGBDT_FN uint32_t pair_lane(Pair8 q) {  // 16 + 16 bits
  return (uint32_t(int32_t(int8_t(q >> 8))) << 16) + (q & 0xffu);
}
QGBDT_FN HistCell pair_lane(Pair16 q) { return make_cell(int32_t(q) >> 16, int32_t(q & 0xffffu)); }
QGBDT_FN HistCell lane_cell(uint32_t lane) {
  return make_cell(int32_t(lane) >> 16, int32_t(lane & 0xffffu));
}
QGBDT_FN uint32_t cell_lane(HistCell cell) {  // of few enough rows
  return (uint32_t(cell_gradient(cell)) << 16) + uint32_t(cell_hessian(cell));
}
QGBDT_FN HistCell lane_cell(HistCell lane) { return lane; }

// How one tree's gradients become integers.
struct Quantization {
  Scale gradient, hessian;
  bool constant_hessian;  // every hessian is 1: the integer 1 is exact, and hessian sums count rows
  bool stochastic;
  uint64_t key;  // stream_key(seed, iteration, output)
};

QGBDT_FN bool is_wide(const Quantization& q) {  // takes 16-bit pairs
  return q.gradient.levels > levels_of_bits(kByteBits) ||
         q.hessian.levels > 2 * levels_of_bits(kByteBits);
}

// Rows that a 16 + 16 bit lane holds: sums of gradients stay within +-(2^15 - 1), of hessians below
// 2^16.
QGBDT_FN int64_t rows_per_flush(const Quantization& q) {
  const int64_t by_gradient = INT16_MAX / q.gradient.levels;
  const int64_t by_hessian = UINT16_MAX / q.hessian.levels;
  return by_gradient < by_hessian ? by_gradient : by_hessian;
}

// `uniform` in [0, 2^16). Stochastic: floor(x) + [u < x - floor(x)], so the mean is x (eq. 4).
template <bool kStochastic>
QGBDT_FN int32_t round_scaled(double x, uint32_t uniform) {
  const double f = floor_small(x);
  const double u = (double(int32_t(uniform)) + 0.5) * (1.0 / 65536.0);
  const bool up = kStochastic ? u < x - f : x - f >= 0.5;
  return int32_t(f) + int32_t(up);
}

QGBDT_FN int32_t clamp_int(int32_t x, int32_t low, int32_t high) {
  x = x < low ? low : x;
  return x > high ? high : x;
}

template <bool kStochastic>
QGBDT_FN int32_t quantize_gradient(const Quantization& q, float g, uint32_t random) {
  const int32_t x = round_scaled<kStochastic>(double(g) * q.gradient.inverse, random >> 16);
  return clamp_int(x, -q.gradient.levels, q.gradient.levels);
}

template <bool kStochastic>
QGBDT_FN int32_t quantize_hessian(const Quantization& q, float h, uint32_t random) {
  const int32_t x = round_scaled<kStochastic>(double(h) * q.hessian.inverse, random & 0xffffu);
  return clamp_int(x, 0, q.hessian.levels);
}

}  // namespace qgbdt
