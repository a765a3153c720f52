// What each feature adds to a raw prediction: Shapley values, exact, of the game in which a tree's
// rows part at a split on an unknown feature as the training rows did (path-dependent TreeSHAP:
// Lundberg et al., "From local explanations to global understanding with explainable AI for trees",
// 2020).
//
// A leaf of value v has a factor for each feature on its path: (1 - t) z + t o if the feature is
// known with probability t, where z is the share of training rows that stay on the path, and o is 1
// (hot) if the row does, else 0 (cold). The Shapley value of feature i is the integral over t from
// 0 to 1 of v (o_i - z_i) times all other factors (Owen, "Multilinear extensions of games", 1972):
// a polynomial of t, so Gauss-Legendre quadrature of half as many points as features finds it
// exactly. Products are passed down the tree and their sums up, a vector of points a node; a
// feature that comes again on a path replaces its factor. So a row costs (nodes) x (points), and no
// division.
#pragma once

#include <stdint.h>

#include "binning.h"
#include "tree.h"

namespace qgbdt {

// out: [n_samples][n_outputs][n_features + 1], of the trees of iterations [begin, end); the last
// place is what is expected of any row, base score included. A row's sum is its raw prediction.
void shap_values(const Model& model, const MatrixView& X, int64_t begin_iteration,
                 int64_t end_iteration, Team& team, double* out);

// out: [n_samples][n_outputs][n_features + 1][n_features + 1], symmetric. Off the diagonal is half
// of what two features add together, on it what a feature adds alone: a line's sum is the feature's
// Shapley value. The last place is what is expected of any row.
void shap_interactions(const Model& model, const MatrixView& X, int64_t begin_iteration,
                       int64_t end_iteration, Team& team, double* out);

}  // namespace qgbdt
