#pragma once

#include <atomic>
#include <cmath>

#include "../category_split.h"
#include "cpu_backend.h"

namespace qgbdt {

// What a node's splits by the features of a tile gain no more than.
struct CpuBackend::TileBounds {
  float of_features[kMaxTileFeatures] = {};
  float highest = 0;
};

// A node that is searched, by many threads at once: the best split of each feature, with counts
// unchecked. What is below a split that is sure to be allowed is not looked for.
struct CpuBackend::SearchedNode {
  FindSplitTask task;
  NodeRules rules;
  FeatureSplit* features;
  CategorySet* categories;  // of these, or null
  FeatureMask live;         // of what comes of the node
  std::atomic<double> sure_gain{0};

  SearchedNode(const FindSplitTask& task_, const NodeRules& rules_, FeatureSplit* features_,
               CategorySet* categories_)
      : task(task_), rules(rules_), features(features_), categories(categories_) {}

  // A feature has n_categories, or kNotCategorical; counts: as in Kernels::find_split.
  FeatureSplit find(const Kernels& kernels, int32_t feature, const FeatureBins& bins,
                    int32_t n_categories, const uint32_t* counts, double at_least) {
    if (n_categories == kNotCategorical)
      return kernels.find_split(bins, counts, int32_t(task.count), rules, at_least);
    CategoryBins in_order;
    in_order.n_categories = n_categories;
    in_order.total_count = counts ? int32_t(task.count) : 0;
    for (int32_t bin = 0; bin <= n_categories; ++bin) {
      const int32_t place = bins.order.place(position_of_bin(bin, n_categories));
      in_order.sums[bin] = bins.lanes ? lane_cell(bins.lanes[place]) : bins.cells[place];
      in_order.counts[bin] = counts ? counts[place] : 0;
    }
    return find_category_split(in_order, rules, &categories[feature]);
  }

  // What no split of the feature gains more than, as kernels bound it.
  float bound(const Kernels& kernels, int32_t feature, const FeatureBins& bins,
              int32_t n_categories) const {
    if (task.allowed && !task.allowed[feature]) return 0;
    return n_categories == kNotCategorical ? kernels.bound_splits(bins, rules) : HUGE_VALF;
  }
  bool is_worth_searching(float bound) const { return bound >= bound_of_gain(sure(), rules); }

  double sure() const { return sure_gain.load(std::memory_order_relaxed); }
  void add(int32_t feature, const FeatureSplit& split) {
    features[feature] = split;
    if (!has_enough_rows(split, rules)) return;
    for (double known = sure(); known < split.gain;)
      if (sure_gain.compare_exchange_weak(known, split.gain)) break;
  }
};

}  // namespace qgbdt
