#include "category_split.h"

#include <algorithm>

namespace qgbdt {
namespace {

struct CategorySearch {
  const CategoryBins& bins;
  const NodeRules& rules;
  NodeRules of_children = rules;  // for their scores
  FeatureSplit best{0, 0, 0, false, false};
  CategorySet best_set = {};

  int32_t n_bins() const { return bins.n_categories + 1; }
  double hessian(HistCell sum) const { return cell_hessian(sum) * rules.params.hessian_scale; }

  bool is_allowed(HistCell sum, int32_t count) const {
    return cell_hessian(sum) >= rules.min_hessian &&
           (bins.total_count == 0 || count >= rules.params.min_child_samples);
  }

  // Of equal splits the first is the best.
  void compare(HistCell left, int32_t count, const CategorySet& set) {
    const HistCell right = rules.total - left;
    if (!is_allowed(left, count) || !is_allowed(right, bins.total_count - count)) return;
    const double score = rules.params.limits_values
                             ? bounded_sides_score(left, right, 0, of_children)
                             : sides_score(left, right, of_children.params);
    const double gain = score - rules.score;
    if (!(gain > best.gain)) return;
    best = {gain, left, 0, set.contains(bins.n_categories), bins.total_count > 0};
    best_set = set;
  }

  void search_each() {
    for (int32_t bin = 0; bin < n_bins(); ++bin) {
      CategorySet set;
      set.insert(bin);
      compare(bins.sums[bin], int32_t(bins.counts[bin]), set);
    }
  }

  void search_in_order() {
    const CategoryParams& p = rules.params.category;
    const double least = (p.smooth - 0.5) * rules.mean_hessian;  // fewer rows say too little
    const double least_of_group = (p.min_data_per_group - 0.5) * rules.mean_hessian;
    int32_t order[kBinPlaces], n = 0;
    double slope[kBinPlaces];
    for (int32_t bin = 0; bin < n_bins(); ++bin) {
      const double h = hessian(bins.sums[bin]);
      if (cell_hessian(bins.sums[bin]) == 0 || !(h >= least)) continue;
      slope[bin] = cell_gradient(bins.sums[bin]) * rules.params.gradient_scale / (h + p.smooth);
      order[n++] = bin;
    }
    std::sort(order, order + n, [&](int32_t a, int32_t b) {
      return slope[a] != slope[b] ? slope[a] < slope[b] : a < b;
    });
    of_children.params.reg_lambda += p.l2;
    const int32_t most = std::min(p.max_threshold, (n + 1) / 2);
    for (const bool backwards : {false, true}) {
      HistCell left = 0, group = 0;
      int32_t count = 0;
      CategorySet set;
      for (int32_t i = 0; i < most; ++i) {
        const int32_t bin = order[backwards ? n - 1 - i : i];
        left += bins.sums[bin];
        group += bins.sums[bin];
        count += int32_t(bins.counts[bin]);
        set.insert(bin);
        if (hessian(rules.total - left) < least_of_group) break;
        if (hessian(group) < least_of_group) continue;
        compare(left, count, set);
        group = 0;
      }
    }
  }
};

}  // namespace

FeatureSplit find_category_split(const CategoryBins& bins, const NodeRules& rules,
                                 CategorySet* categories) {
  CategorySearch search{bins, rules};
  if (bins.n_categories <= rules.params.category.max_to_onehot) search.search_each();
  else search.search_in_order();
  if (!(search.best.gain > gain_threshold(rules.score, rules.params))) search.best.gain = 0;
  search.best_set.erase(bins.n_categories);
  *categories = search.best_set;
  return search.best;
}

}  // namespace qgbdt
