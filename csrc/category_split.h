// The best split of a categorical feature, by LightGBM's rules: few categories one against the
// rest; more of them in the order of their gradients, the first ones or the last ones against the
// rest. Rows are counted by hessians: a category or a group of `n` rows has the hessian of n - 1/2
// average rows of the node.
#pragma once

#include <stdint.h>

#include "bin_order.h"
#include "split.h"
#include "types.h"

namespace qgbdt {

// A feature in a node: its categories, then the missing values, which are split like one.
struct CategoryBins {
  int32_t n_categories;
  HistCell sums[kBinPlaces];
  uint32_t counts[kBinPlaces];  // of rows, if they are counted:
  int32_t total_count;          // of the node, or 0
};

// categories: those that go left.
FeatureSplit find_category_split(const CategoryBins& bins, const NodeRules& rules,
                                 CategorySet* categories);

}  // namespace qgbdt
