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
};

QGBDT_FN double soft_threshold(double gradient, double reg_alpha) {
  const double m = (gradient < 0 ? -gradient : gradient) - reg_alpha;
  return m > 0 ? m : 0.0;
}

// How far a leaf moves, before shrinkage: the Newton step |T(G)| / (H + lambda), at most max_step.
QGBDT_FN double step_size(double gradient, double hessian, double max_step) {
  const double step = gradient / hessian;
  return step < max_step ? step : max_step;
}

// Twice the loss that this step removes: T(G)^2 / (H + lambda) unless the step is cut short.
QGBDT_FN double leaf_score(double gradient, double hessian, const SplitParams& p) {
  const double m = soft_threshold(gradient, p.reg_alpha);
  const double h = hessian + p.reg_lambda;
  const double step = step_size(m, h, p.max_step);
  return step * (2.0 * m - step * h);
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

// A float32 upper bound of sides_score in units of (gradient step)^2 / hessian step: eight or
// sixteen at a time say where the exact score is worth its divisions. It rounds alpha
// down, ignores max_step, which only lowers a score, and is then off by fifteen float32 roundings
// at most, none of which cancels: less than kBoundMargin.
struct ScoreBound {
  double unit;
  float lambda;
  int32_t alpha;
  bool usable;  // all of it within the range of float32
};
constexpr double kBoundMargin = 4e-6;

QGBDT_FN ScoreBound score_bound(const SplitParams& p) {
  const double gs = p.gradient_scale, hs = p.hessian_scale;
  ScoreBound b;
  b.unit = gs * gs / hs;
  const double alpha = p.reg_alpha / gs * (1 - 1e-12);
  const double lambda = p.reg_lambda / hs;
  b.usable = b.unit > 1e-200 && b.unit < 1e200 && alpha < 2e9 && lambda < 1e15;
  b.alpha = b.usable ? int32_t(alpha) : 0;
  b.lambda = b.usable ? float(lambda) : 0.0f;
  return b;
}

// m^2 / h of both sides by one division: (m_l^2 h_r + m_r^2 h_l) / (h_l h_r). Numbers: one number a
// machine's way, or a vector of them.
template <class Numbers, class Int>
QGBDT_FN auto bounded_score(Int left_gradient, Int left_hessian, Int right_gradient,
                            Int right_hessian, const ScoreBound& b) {
  const auto over = [&](Int gradient) {
    const Int m = Numbers::magnitude(gradient) - b.alpha;
    return Numbers::to_float(Numbers::larger(m, Int{}));
  };
  const auto left_m = over(left_gradient), right_m = over(right_gradient);
  const auto left_h = Numbers::to_float(left_hessian) + b.lambda;
  const auto right_h = Numbers::to_float(right_hessian) + b.lambda;
  return (left_m * left_m * right_h + right_m * right_m * left_h) / (left_h * right_h);
}

// A score is below `score` where its bound is below this.
QGBDT_FN float reached_bound(double score, const ScoreBound& b) {
  return float(score / b.unit * (1 - kBoundMargin));
}

// What a node's splits are judged by.
struct NodeRules {
  SplitParams params;  // with the node's own min_child_weight
  HistCell total;
  double score;
  int32_t min_hessian;  // of a child, as an integer sum: min_child_weight and a defined step
  ScoreBound bound;
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

// A child needs min_child_samples rows, and the hessian of that many average rows of its node (less
// half a row, so that a constant hessian always has it): a few uncertain rows among many that are
// settled make no leaf, whose step G / H would be huge. LightGBM, which estimates counts from
// hessians, has this rule alone.
QGBDT_FN NodeRules rules_of_node(const SplitParams& p, HistCell total, int64_t count) {
  NodeRules rules{p, total, node_score(total, p), 0, score_bound(p)};
  const double mean_hessian = cell_hessian(total) * p.hessian_scale / double(count);
  const double weight = (p.min_child_samples - 0.5) * mean_hessian;
  if (weight > p.min_child_weight) rules.params.min_child_weight = weight;
  rules.min_hessian = least_hessian(rules.params);
  return rules;
}

// A split is allowed if its gain is above this.
QGBDT_FN double gain_threshold(double parent_score, const SplitParams& p) {
  const double noise = kRelativeGainNoise * parent_score;
  return p.min_split_gain > noise ? p.min_split_gain : noise;
}

// Before shrinkage.
QGBDT_FN double leaf_value(double gradient, double hessian, const SplitParams& p) {
  const double h = hessian + p.reg_lambda;
  if (!(h > 0)) return 0;
  const double step = step_size(soft_threshold(gradient, p.reg_alpha), h, p.max_step);
  return gradient < 0 ? step : -step;
}

}  // namespace qgbdt
