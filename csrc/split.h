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
  int32_t min_child_samples;  // >= 1
  int32_t hessian_levels;     // the largest integer hessian of a row
  bool constant_hessian;      // integer hessian sums are row counts
};

QGBDT_FN double soft_threshold(double gradient, double reg_alpha) {
  const double m = (gradient < 0 ? -gradient : gradient) - reg_alpha;
  return m > 0 ? m : 0.0;
}

// Twice the loss that the best value of a leaf removes: T(G)^2 / (H + lambda).
QGBDT_FN double leaf_score(double gradient, double hessian, double reg_alpha, double reg_lambda) {
  const double m = soft_threshold(gradient, reg_alpha);
  return m * m / (hessian + reg_lambda);
}

QGBDT_FN double node_score(HistCell total, const SplitParams& p) {
  const double h = cell_hessian(total) * p.hessian_scale;
  if (!(h + p.reg_lambda > 0)) return 0;
  return leaf_score(cell_gradient(total) * p.gradient_scale, h, p.reg_alpha, p.reg_lambda);
}

// A split is allowed if its gain is above this.
QGBDT_FN double gain_threshold(double parent_score, const SplitParams& p) {
  const double noise = kRelativeGainNoise * parent_score;
  return p.min_split_gain > noise ? p.min_split_gain : noise;
}

// Before shrinkage: -T(G) / (H + lambda).
QGBDT_FN double leaf_value(double gradient, double hessian, double reg_alpha, double reg_lambda) {
  if (!(hessian + reg_lambda > 0)) return 0;
  const double t = soft_threshold(gradient, reg_alpha);
  return (gradient < 0 ? t : -t) / (hessian + reg_lambda);
}

}  // namespace qgbdt
