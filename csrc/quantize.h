// Gradients to small integers (Shi et al., "Quantized Training of Gradient Boosting Decision
// Trees", NeurIPS 2022, section 4): 2^B - 2 equal intervals, one scale per tree and output,
// stochastic rounding.
//
// No accumulator can overflow, by construction. A gradient has at most gradient_levels in
// magnitude, a hessian at most 2 * gradient_levels, and gradient_levels(bits, n) keeps n * 2 *
// gradient_levels below 2^31 for the n rows of all workers: every sum of any subset of the rows
// fits the 32-bit halves of a HistCell. (More rows than 2^31 / 2^B lose levels, not safety; with
// that many rows rounding noise is averaged away.) A packed 16 + 16 bit lane is flushed after
// rows_per_flush rows.
#pragma once

#include <stdint.h>

#include "support/rng.h"
#include "types.h"

namespace qgbdt {

constexpr int64_t kMaxCellSum = INT32_MAX;

QGBDT_FN int32_t gradient_levels(int bits, int64_t n_samples) {
  const int64_t wanted = (int64_t(1) << (bits - 1)) - 1;
  const int64_t safe = kMaxCellSum / (2 * n_samples);
  return int32_t(wanted < safe ? wanted : safe);
}

// A quantized row is one word: gradient in the upper half (signed), hessian in the lower
// (unsigned).
using Pair8 = uint16_t;   // up to 8 bits: gradient +-127, hessian 0..254
using Pair16 = uint32_t;  // 16 bits: gradient +-32767, hessian 0..65534

constexpr int kMaxPair8Bits = 8;

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
QGBDT_FN uint64_t pair_lane(Pair16 q) {  // 32 + 32 bits: a HistCell
  return (uint64_t(int64_t(int32_t(q) >> 16)) << 32) + (q & 0xffffu);
}
QGBDT_FN HistCell lane_cell(uint32_t lane) {
  return make_cell(int32_t(lane) >> 16, int32_t(lane & 0xffffu));
}
QGBDT_FN HistCell lane_cell(uint64_t lane) { return HistCell(lane); }

// Rows that a 16 + 16 bit lane holds: rows * levels <= 2^15 - 1 (then rows * 2 * levels < 2^16).
QGBDT_FN int64_t rows_per_flush(int32_t gradient_levels) { return INT16_MAX / gradient_levels; }

// How one tree's gradients become integers, and back: real = integer * scale.
struct Quantization {
  int32_t gradient_levels, hessian_levels;
  double gradient_scale, hessian_scale;
  double inverse_gradient_scale, inverse_hessian_scale;
  bool constant_hessian;  // every hessian is 1: the integer 1 is exact, and hessian sums count rows
  bool stochastic;
  uint64_t key;  // stream_key(seed, iteration, output)
};

QGBDT_FN double floor_small(double x) {  // |x| < 2^31; vectorizes on every level
  const double t = double(int32_t(x));
  return t > x ? t - 1.0 : t;
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
  const int32_t x = round_scaled<kStochastic>(double(g) * q.inverse_gradient_scale, random >> 16);
  return clamp_int(x, -q.gradient_levels, q.gradient_levels);
}

template <bool kStochastic>
QGBDT_FN int32_t quantize_hessian(const Quantization& q, float h, uint32_t random) {
  const int32_t x =
      round_scaled<kStochastic>(double(h) * q.inverse_hessian_scale, random & 0xffffu);
  return clamp_int(x, 0, q.hessian_levels);
}

}  // namespace qgbdt
