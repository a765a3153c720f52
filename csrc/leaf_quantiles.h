// Leaves of losses of absolute residuals: quantiles of these, over all workers. Sums of gradients
// tell the signs of residuals, not their sizes.
#pragma once

#include <span>
#include <vector>

#include "backend.h"
#include "comm.h"

namespace qgbdt {

// Of the residuals that the backend took last. The best constant is where the weight of all
// residuals up to it is `level` of the whole; where a range of values is, their middle. Weights are
// integers, so no order matters.
std::vector<double> leaf_quantiles(Backend& backend, Comm& comm, std::span<const RowRange> leaves,
                                   double level);

}  // namespace qgbdt
