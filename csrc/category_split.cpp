#include "category_split.h"

#include <algorithm>

namespace qgbdt {

FeatureSplit find_category_split(const CategoryBins& bins, const NodeRules& rules,
                                 CategorySet* categories) {
  CategorySearch search(bins, rules);
  if (!search.needs_order()) {
    search.search_each();
    return search.best(categories);
  }
  int32_t order[kBinPlaces], n = 0;
  double slope[kBinPlaces];
  for (int32_t bin = 0; bin <= bins.n_categories; ++bin) {
    if (!search.has_place(bin)) continue;
    slope[bin] = search.slope(bin);
    order[n++] = bin;
  }
  std::sort(order, order + n, [&](int32_t a, int32_t b) {
    return CategorySearch::is_before(slope[a], a, slope[b], b);
  });
  search.search_in_order(order, n);
  return search.best(categories);
}

}  // namespace qgbdt
