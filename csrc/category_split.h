// The best split of a categorical feature, by LightGBM's rules: few categories one against the
// rest; more of them in the order of their gradients, the first ones or the last ones against the
// rest. Rows are counted by hessians: a category or a group of `n` rows has the hessian of n - 1/2
// average rows of the node.
#pragma once

#include <stdint.h>

#include "bin_order.h"
#include "split.h"
#include "support/inline.h"
#include "types.h"

namespace qgbdt {

// A feature in a node: its categories, then the missing values, which are split like one.
struct CategoryBins {
  int32_t n_categories;
  HistCell sums[kBinPlaces];
  uint32_t counts[kBinPlaces];  // of rows, if they are counted:
  int32_t total_count;          // of the node, or 0
};

class CategorySearch {
 public:
  QGBDT_FN CategorySearch(const CategoryBins& bins, const NodeRules& rules)
      : bins_(bins), rules_(rules), of_children_(rules), best_{0, 0, 0, false, false}, set_{} {}

  QGBDT_FN bool needs_order() const {
    return bins_.n_categories > rules_.params.category.max_to_onehot;
  }
  // Of the bins that are put into order: fewer rows say too little.
  QGBDT_FN bool has_place(int32_t bin) const {
    const double least = (rules_.params.category.smooth - 0.5) * rules_.mean_hessian;
    return cell_hessian(bins_.sums[bin]) != 0 && hessian(bins_.sums[bin]) >= least;
  }
  QGBDT_FN double slope(int32_t bin) const {
    return cell_gradient(bins_.sums[bin]) * rules_.params.gradient_scale /
           (hessian(bins_.sums[bin]) + rules_.params.category.smooth);
  }
  static QGBDT_FN bool is_before(double slope_a, int32_t a, double slope_b, int32_t b) {
    return slope_a != slope_b ? slope_a < slope_b : a < b;
  }

  QGBDT_FN void search_each() {
    for (int32_t bin = 0; bin <= bins_.n_categories; ++bin) {
      CategorySet set;
      set.insert(bin);
      compare(bins_.sums[bin], int32_t(bins_.counts[bin]), set);
    }
  }

  // order: the n bins that have a place.
  QGBDT_FN void search_in_order(const int32_t* order, int32_t n) {
    const CategoryParams& p = rules_.params.category;
    const double least_of_group = (p.min_data_per_group - 0.5) * rules_.mean_hessian;
    of_children_.params.reg_lambda += p.l2;
    const int32_t half = (n + 1) / 2, most = p.max_threshold < half ? p.max_threshold : half;
    for (int backwards = 0; backwards < 2; ++backwards) {
      HistCell left = 0, group = 0;
      int32_t count = 0;
      CategorySet set;
      for (int32_t i = 0; i < most; ++i) {
        const int32_t bin = order[backwards ? n - 1 - i : i];
        left += bins_.sums[bin];
        group += bins_.sums[bin];
        count += int32_t(bins_.counts[bin]);
        set.insert(bin);
        if (hessian(rules_.total - left) < least_of_group) break;
        if (hessian(group) < least_of_group) continue;
        compare(left, count, set);
        group = 0;
      }
    }
  }

  // categories: those that go left.
  QGBDT_FN FeatureSplit best(CategorySet* categories) const {
    FeatureSplit split = best_;
    if (!(split.gain > gain_threshold(rules_.score, rules_.params))) split.gain = 0;
    *categories = set_;
    categories->erase(bins_.n_categories);
    return split;
  }

 private:
  QGBDT_FN double hessian(HistCell sum) const {
    return cell_hessian(sum) * rules_.params.hessian_scale;
  }
  // Of equal splits the first is the best.
  QGBDT_FN void compare(HistCell left, int32_t count, const CategorySet& set) {
    const int32_t least = rules_.params.min_child_samples;
    const bool is_counted = bins_.total_count > 0;
    if (is_counted && (count < least || bins_.total_count - count < least)) return;
    const double gain = split_gain(left, 0, of_children_);
    if (!(gain > best_.gain)) return;
    best_ = {gain, left, 0, set.contains(bins_.n_categories), is_counted};
    set_ = set;
  }

  const CategoryBins& bins_;
  const NodeRules& rules_;
  NodeRules of_children_;  // for their scores
  FeatureSplit best_;
  CategorySet set_;
};

// categories: those that go left.
FeatureSplit find_category_split(const CategoryBins& bins, const NodeRules& rules,
                                 CategorySet* categories);

}  // namespace qgbdt
