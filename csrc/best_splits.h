// The best splits of a node, of what a machine found for each feature.
#pragma once

#include <stdint.h>

#include <span>
#include <vector>

#include "split.h"
#include "types.h"

namespace qgbdt {

// The n best, best first, but none after the first that is_allowed. features: [n_features], those
// outside of `searched` are not looked at.
std::vector<SplitCandidate> best_splits(std::span<const FeatureSplit> features,
                                        FeatureRange searched, const NodeRules& rules, int32_t n);

}  // namespace qgbdt
