// Predictions of a model for raw data.
#pragma once

#include <stdint.h>

#include "binning.h"
#include "tree.h"

namespace qgbdt {

constexpr int64_t kTreesPerThread = 1 << 13;  // row x tree walks that outweigh waking a thread

// out: [n_samples][n_outputs], row-major. Sums the trees of iterations [begin, end) in order onto
// the base scores; unless `raw`, maps through the objective's link.
void predict(const Model& model, const MatrixView& X, int64_t begin_iteration,
             int64_t end_iteration, bool raw, Team& team, double* out);

}  // namespace qgbdt
