// The values of a finished tree's leaves.
#pragma once

#include <stdint.h>

#include <span>
#include <vector>

#include "split.h"
#include "tree.h"
#include "types.h"

namespace qgbdt {

// Before shrinkage, of sums in steps of some size. signs: of each feature, +1 if values may not
// fall with it, -1 if they may not rise, 0 if they may do either; or empty. Bounds follow from the
// values that nodes would have as leaves: as those of growth, but of these sums.
std::vector<double> leaf_values(const Tree& tree, std::span<const int32_t> leaf_nodes,
                                std::span<const LeafSums> leaves, double gradient_step,
                                double hessian_step, std::span<const int8_t> signs,
                                const SplitParams& params);

}  // namespace qgbdt
