// Gain, leaf value, and which splits are allowed. Second-order boosting (Chen and Guestrin,
// XGBoost, KDD 2016, eq. 5 to 7) with L1 by soft threshold.
#pragma once

#include <stdint.h>

#include "support/inline.h"
#include "types.h"

namespace qgbdt {

// A gain this small against the node's own score is rounding noise of equal gradients, not a
// signal.
constexpr double kRelativeGainNoise = 1e-12;

struct SplitParams {
  double gradient_scale, hessian_scale;
  double reg_alpha, reg_lambda;
  double min_child_weight;
  double min_split_gain;
  double max_step;            // of a leaf, in link space, before shrinkage
  int32_t min_child_samples;  // >= 1
  int32_t hessian_levels;     // the largest integer hessian of a row
  bool constant_hessian;      // integer hessian sums are row counts
  double path_smooth;         // rows that the value of the node above counts for
  bool limits_values;         // a leaf's value is not its Newton step alone: see Bounds
  CategoryParams category;
};

// Here and in the two below a Real is a double or a vector of them.
template <class Real>
QGBDT_FN Real soft_threshold(Real gradient, double reg_alpha) {
  const Real zero{}, m = (gradient < zero ? -gradient : gradient) - reg_alpha;
  return m > zero ? m : zero;
}

// How far a leaf moves, before shrinkage: the Newton step |T(G)| / (H + lambda), at most max_step.
template <class Real>
QGBDT_FN Real step_size(Real gradient, Real hessian, double max_step) {
  const Real step = gradient / hessian, most = Real{} + max_step;
  return step < most ? step : most;
}

// Twice the loss that this step removes: T(G)^2 / (H + lambda) unless the step is cut short.
template <class Real>
QGBDT_FN Real leaf_score(Real gradient, Real hessian, const SplitParams& p) {
  const Real m = soft_threshold(gradient, p.reg_alpha);
  const Real h = hessian + p.reg_lambda;
  const Real step = step_size(m, h, p.max_step);
  return step * (2.0 * m - step * h);
}

// Before shrinkage.
QGBDT_FN double leaf_value(double gradient, double hessian, const SplitParams& p) {
  const double h = hessian + p.reg_lambda;
  if (!(h > 0)) return 0;
  const double step = step_size(soft_threshold(gradient, p.reg_alpha), h, p.max_step);
  return gradient < 0 ? step : -step;
}

QGBDT_FN double leaf_value(HistCell total, const SplitParams& p) {
  return leaf_value(cell_gradient(total) * p.gradient_scale, cell_hessian(total) * p.hessian_scale,
                    p);
}

// What the values of a node's leaves lie between, before shrinkage, so that a prediction rises (or
// falls) with a feature: the two sides of a split by it stay below and above the middle of the
// values that they would have as leaves. And the value of the node above, towards which its own is
// drawn, as if path_smooth rows had it.
struct Bounds {
  double lower = -__builtin_huge_val(), upper = __builtin_huge_val();
  double above = 0;
};
struct ChildBounds {
  Bounds left, right;
};

QGBDT_FN ChildBounds child_bounds(const Bounds& of_node, int sign, double left, double right) {
  const double middle = (left + right) * 0.5;
  const Bounds below{of_node.lower, middle, of_node.above};
  const Bounds above{middle, of_node.upper, of_node.above};
  if (sign == 0) return {of_node, of_node};
  return sign > 0 ? ChildBounds{below, above} : ChildBounds{above, below};
}

QGBDT_FN double bounded_value(double gradient, double hessian, double n_rows, const Bounds& bounds,
                              const SplitParams& p) {
  double value = leaf_value(gradient, hessian, p);
  if (p.path_smooth > 0)
    value = (value * n_rows + bounds.above * p.path_smooth) / (n_rows + p.path_smooth);
  value = value > bounds.lower ? value : bounds.lower;
  return value < bounds.upper ? value : bounds.upper;
}
QGBDT_FN double bounded_value(HistCell total, double n_rows, const Bounds& bounds,
                              const SplitParams& p) {
  return bounded_value(cell_gradient(total) * p.gradient_scale,
                       cell_hessian(total) * p.hessian_scale, n_rows, bounds, p);
}

// The same for the children of a node of this value.
QGBDT_FN Bounds with_value_above(Bounds bounds, double value) {
  bounds.above = value;
  return bounds;
}

// Twice the loss that a leaf of this value removes: no more than leaf_score.
QGBDT_FN double score_of_value(HistCell total, double value, const SplitParams& p) {
  const double loss =
      cell_gradient(total) * p.gradient_scale * value + p.reg_alpha * (value < 0 ? -value : value);
  const double h = cell_hessian(total) * p.hessian_scale + p.reg_lambda;
  return -(2.0 * loss + h * value * value);
}

QGBDT_FN double node_score(HistCell total, const SplitParams& p) {
  const double h = cell_hessian(total) * p.hessian_scale;
  if (!(h + p.reg_lambda > 0)) return 0;
  return leaf_score(cell_gradient(total) * p.gradient_scale, h, p);
}

// The score of a node cut in two.
QGBDT_FN double sides_score(HistCell left, HistCell right, const SplitParams& p) {
  const double gs = p.gradient_scale, hs = p.hessian_scale;
  return leaf_score(cell_gradient(left) * gs, cell_hessian(left) * hs, p) +
         leaf_score(cell_gradient(right) * gs, cell_hessian(right) * hs, p);
}

constexpr double kBoundMargin = 4e-6;  // more than the roundings of sums and products

// gradient - mean * hessian of packed 16 + 16 bit sums is, but for an error, `unit` times a sum of
// their halves, each times a 16-bit weight: one instruction, exact in 32 bits.
struct PairWeights {
  int32_t packed;  // of the gradient << 16 | of the hessian
  float unit, error;
};
constexpr int32_t kLargestWeight = 1 << 13;  // so that sums of two do fit, too

QGBDT_FN PairWeights pair_weights(double mean, int32_t total_hessian) {
  const double magnitude = mean < 0 ? -mean : mean;
  int32_t of_gradient = kLargestWeight;
  while (of_gradient > 1 && magnitude * of_gradient > kLargestWeight) of_gradient /= 2;
  const double exact = magnitude <= kLargestWeight ? -mean * of_gradient : 0;
  const int32_t of_hessian = int32_t(exact < 0 ? exact - 0.5 : exact + 0.5);
  const double unit = 1.0 / of_gradient, off = mean + of_hessian * unit;
  const double error = (off < 0 ? -off : off) * total_hessian * (1 + kBoundMargin);
  return {int32_t(uint32_t(of_gradient) << 16 | (uint32_t(of_hessian) & 0xffffu)), float(unit),
          float(error)};
}

// No cut is allowed: the bound is zero. Any that is allowed has at least this, since where values
// are limited a node's score may be below that of sides which gain nothing.
constexpr float kLeastBound = __FLT_MIN__;

// A float32 upper bound of sides_score, computed for eight or sixteen cuts at a time: it says where
// the exact score is worth its divisions. In units of (gradient step)^2 / hessian step, with G = a
// + b, H = p + q and lambda within p and q, sides that sum to a and b have
//
//   a^2 / p + b^2 / q = G^2 / H + e^2 H / (p q),   e = a - p G / H.
//
// T(a)^2 is the least (a - u)^2 of all |u| <= alpha, and T(b)^2 the least (b - v)^2: any u and v
// bound the score. With v = -u the sum stays G, and the best u brings |e| down by alpha, or to 0.
// max_step is ignored: it only lowers a score.
struct ScoreBound {
  double inverse_unit;
  float alpha, lambda;
  float mean, total_hessian;  // G / H and H
  float least;                // what e adds to: G^2 / H
  PairWeights of_pairs;
  bool usable;  // all of it within the range of float32
};

QGBDT_FN ScoreBound score_bound(const SplitParams& p, HistCell total) {
  const double gs = p.gradient_scale, hs = p.hessian_scale;
  const double unit = gs * gs / hs, alpha = p.reg_alpha / gs, lambda = p.reg_lambda / hs;
  const double g = cell_gradient(total), h = cell_hessian(total) + 2 * lambda;
  const bool usable =
      unit > 1e-200 && unit < 1e200 && alpha < 1e15 && lambda < 1e15 && cell_hessian(total) > 0;
  if (!usable) return {};
  return {1 / unit,
          float(alpha),
          float(lambda),
          float(g / h),
          float(h),
          g * g / h > kLeastBound ? float(g * g / h) : kLeastBound,
          pair_weights(g / h, cell_hessian(total)),
          true};
}

// excess: no less than |e|; least_product: no more than p q. Numbers: one number a machine's way,
// or a vector of them.
template <class Numbers, class Float>
QGBDT_FN Float bounded_score(Float excess, Float least_product, const ScoreBound& b) {
  const Float rest = Numbers::larger(excess - b.alpha, Float{});
  return b.least + rest * rest * (b.total_hessian / least_product);
}

// A score is below `score` where its bound is below this.
QGBDT_FN float reached_bound(double score, const ScoreBound& b) {
  return float(score * b.inverse_unit * (1 - kBoundMargin));
}

// What a node's splits are judged by.
struct NodeRules {
  SplitParams params;  // with the node's own min_child_weight
  HistCell total;
  double score;
  int32_t min_hessian;  // of a child, as an integer sum: min_child_weight and a defined step
  Bounds bounds;        // of its children
  ScoreBound bound;
  double mean_hessian;  // of a row
};

QGBDT_FN bool enough_hessian(int32_t sum, const SplitParams& p) {
  const double hessian = sum * p.hessian_scale;
  return hessian >= p.min_child_weight && hessian + p.reg_lambda > 0;
}

QGBDT_FN int32_t least_hessian(const SplitParams& p) {  // INT32_MAX if none is enough
  int32_t low = p.constant_hessian ? p.min_child_samples : 0;
  int32_t high = INT32_MAX;
  while (low < high) {
    const int32_t middle = low + (high - low) / 2;
    if (enough_hessian(middle, p)) high = middle;
    else low = middle + 1;
  }
  return low;
}

QGBDT_FN bool enough_rows_for_two(int64_t count, const SplitParams& p) {
  return count >= 2 * int64_t(p.min_child_samples);
}

// A child needs min_child_samples rows, and the hessian of that many average rows of its node (less
// half a row, so that a constant hessian always has it): a few uncertain rows among many that are
// settled make no leaf, whose step G / H would be huge. LightGBM, which estimates counts from
// hessians, has this rule alone.
QGBDT_FN NodeRules rules_of_node(const SplitParams& p, HistCell total, int64_t count,
                                 const Bounds& bounds) {
  const double value = bounded_value(total, double(count), bounds, p);
  const double score = p.limits_values ? score_of_value(total, value, p) : node_score(total, p);
  const double mean_hessian = cell_hessian(total) * p.hessian_scale / double(count);
  NodeRules rules{
      p, total, score, 0, with_value_above(bounds, value), score_bound(p, total), mean_hessian};
  const double weight = (p.min_child_samples - 0.5) * mean_hessian;
  if (weight > p.min_child_weight) rules.params.min_child_weight = weight;
  rules.min_hessian = least_hessian(rules.params);
  return rules;
}

// Of one side of a split: its rows are as many average rows of the node as its hessian is.
QGBDT_FN double value_of_side(HistCell side, const NodeRules& rules) {
  const double n_rows = cell_hessian(side) * rules.params.hessian_scale / rules.mean_hessian;
  return bounded_value(side, n_rows, rules.bounds, rules.params);
}

// As sides_score, within bounds; minus infinity if the sides are in the wrong order. sign: of the
// feature, +1 if values may not fall with it, -1 if they may not rise.
QGBDT_FN double bounded_sides_score(HistCell left, HistCell right, int sign,
                                    const NodeRules& rules) {
  const double left_value = value_of_side(left, rules), right_value = value_of_side(right, rules);
  if (sign * (right_value - left_value) < 0) return -__builtin_huge_val();
  return score_of_value(left, left_value, rules.params) +
         score_of_value(right, right_value, rules.params);
}

// 0 if a side has too small a hessian.
QGBDT_FN double split_gain(HistCell left, int sign, const NodeRules& rules) {
  const HistCell right = rules.total - left;
  if (cell_hessian(left) < rules.min_hessian || cell_hessian(right) < rules.min_hessian) return 0;
  const double score = rules.params.limits_values ? bounded_sides_score(left, right, sign, rules)
                                                  : sides_score(left, right, rules.params);
  return score - rules.score;
}

// A split whose bound is below this gains less.
QGBDT_FN float bound_of_gain(double gain, const NodeRules& rules) {
  const float bound = rules.bound.usable ? reached_bound(rules.score + gain, rules.bound) : 0;
  return bound > kLeastBound ? bound : kLeastBound;
}

// The best cut of one feature.
struct FeatureSplit {
  double gain;  // <= 0: none
  HistCell left;
  int32_t bin;
  bool missing_left;
  bool is_counted;  // both sides are known to have min_child_samples rows
};

// No row has more than hessian_levels: a hessian this large proves min_child_samples rows.
QGBDT_FN bool has_enough_rows(const FeatureSplit& split, const NodeRules& rules) {
  const SplitParams& p = rules.params;
  const int32_t left = cell_hessian(split.left), right = cell_hessian(rules.total) - left;
  return split.is_counted || p.constant_hessian ||
         (left < right ? left : right) >= int64_t(p.min_child_samples) * p.hessian_levels;
}

// A split is allowed if its gain is above this.
QGBDT_FN double gain_threshold(double parent_score, const SplitParams& p) {
  const double noise = kRelativeGainNoise * (parent_score < 0 ? -parent_score : parent_score);
  return p.min_split_gain > noise ? p.min_split_gain : noise;
}

// Where a row of bin b goes.
struct SplitRule {
  int32_t bin, missing_left_bin;  // the latter -1 if missing values go right
  QGBDT_FN bool goes_left(int32_t b) const { return (b <= bin) | (b == missing_left_bin); }
};

}  // namespace qgbdt
