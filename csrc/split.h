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

// The rules of one node. A child needs min_child_samples rows, and the hessian of that many average
// rows of its node (less half a row, so that a constant hessian always has it): a few uncertain
// rows among many that are settled make no leaf, whose step G / H would be huge. LightGBM, which
// estimates counts from hessians, has this rule alone.
QGBDT_FN SplitParams rules_of_node(const SplitParams& p, HistCell total, int64_t count) {
  SplitParams rules = p;
  const double mean_hessian = cell_hessian(total) * p.hessian_scale / double(count);
  const double weight = (p.min_child_samples - 0.5) * mean_hessian;
  if (weight > rules.min_child_weight) rules.min_child_weight = weight;
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
