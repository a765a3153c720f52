// The linear model of a leaf (Shi et al., "Gradient boosting with piece-wise linear regression
// trees", 2019): the v = constant + sum of coefficient x with the least sum of
// g v + h v^2 / 2 over its rows, plus linear_lambda / 2 times the squares of the coefficients.
#pragma once

#include <stdint.h>

#include <span>

#include "binning.h"
#include "tree.h"

namespace qgbdt {

struct LinearRules {
  double linear_lambda;
  double max_step;  // of the value of any of the leaf's rows
};

// Without terms, if the leaf is to stay constant: rows without a missing or infinite value are
// fewer than what is fitted, nothing varies among them, or a value is beyond max_step. The rows
// are added up as they come, so they come in an order of their own, that of their numbers.
LinearLeaf fit_linear_leaf(const MatrixView& X, std::span<const uint32_t> rows,
                           std::span<const int32_t> features, const float* gradient,
                           const float* hessian, const LinearRules& rules);

// The numerical features on the path to each leaf, ascending.
std::vector<std::vector<int32_t>> features_of_leaves(const Tree& tree,
                                                     std::span<const int32_t> leaf_nodes);

}  // namespace qgbdt
