#pragma once

#include <algorithm>
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
  const BinnedMatrix& matrix;
  FindSplitTask task;
  NodeRules rules;
  FeatureSplit* features;
  CategorySet* categories;  // of these, or null
  FeatureMask live;         // of what comes of the node
  std::atomic<double> sure_gain{0};

  SearchedNode(const BinnedMatrix& matrix_, const FindSplitTask& task_, const NodeRules& rules_,
               FeatureSplit* features_, CategorySet* categories_)
      : matrix(matrix_), task(task_), rules(rules_), features(features_), categories(categories_) {}

  // counts: as in Kernels::find_split.
  FeatureSplit find(const Kernels& kernels, int32_t feature, const FeatureBins& bins,
                    const uint32_t* counts, double at_least) {
    if (matrix.is_categorical(feature)) return find_categories(feature, bins, counts);
    if (task.only_cuts) return find_at_only_cut(feature, bins, counts);
    if (task.cuts) return find_at_cut(kernels, feature, bins, counts, at_least);
    return kernels.find_split(bins, counts, int32_t(task.count), rules, at_least);
  }

  // What no split of the feature gains more than, as kernels bound it.
  float bound(const Kernels& kernels, int32_t feature, const FeatureBins& bins) const {
    if (task.allowed && !task.allowed[feature]) return 0;
    return matrix.is_categorical(feature) || task.cuts ? HUGE_VALF
                                                       : kernels.bound_splits(bins, rules);
  }
  bool is_worth_searching(float bound) const { return bound >= bound_of_gain(sure(), rules); }

  double sure() const { return sure_gain.load(std::memory_order_relaxed); }
  void add(int32_t feature, const FeatureSplit& split) {
    features[feature] = split;
    if (!has_enough_rows(split, rules)) return;
    for (double known = sure(); known < split.gain;)
      if (sure_gain.compare_exchange_weak(known, split.gain)) break;
  }

 private:
  FeatureSplit find_categories(int32_t feature, const FeatureBins& bins, const uint32_t* counts) {
    CategoryBins in_order;
    in_order.n_categories = matrix.n_value_bins(feature);
    in_order.total_count = counts ? int32_t(task.count) : 0;
    for (int32_t bin = 0; bin <= in_order.n_categories; ++bin) {
      const int32_t place = bins.order.place(position_of_bin(bin, in_order.n_categories));
      in_order.sums[bin] = cell_at(bins, place);
      in_order.counts[bin] = counts ? counts[place] : 0;
    }
    return find_category_split(in_order, rules, &categories[feature]);
  }

  FeatureSplit find_at_only_cut(int32_t feature, const FeatureBins& bins,
                                const uint32_t* counts) const {
    const int32_t n_value_bins = matrix.n_value_bins(feature), cut = task.cuts[feature];
    const auto place = [&](int32_t bin) {
      return bins.order.place(position_of_bin(bin, n_value_bins));
    };
    HistCell left = 0;
    int64_t n_left = 0;
    const auto add = [&](int32_t bin) {
      left += cell_at(bins, place(bin));
      if (counts) n_left += counts[place(bin)];
    };
    FeatureSplit best{0, 0, cut, false, counts != nullptr};
    const auto compare = [&](bool missing_left) {
      if (counts && std::min(n_left, task.count - n_left) < rules.params.min_child_samples) return;
      const double gain = split_gain(left, bins.sign, rules);
      if (gain > best.gain) best = {gain, left, cut, missing_left, counts != nullptr};
    };
    for (int32_t bin = 0; bin <= cut; ++bin) add(bin);
    compare(false);
    add(n_value_bins);
    compare(true);
    if (!(best.gain > gain_threshold(rules.score, rules.params))) best.gain = 0;
    return best;
  }

  // As if the feature had two bins, those up to its cut and the others. Missing values may be
  // parted from all of them, too.
  FeatureSplit find_at_cut(const Kernels& kernels, int32_t feature, const FeatureBins& bins,
                           const uint32_t* counts, double at_least) const {
    const int32_t n_value_bins = matrix.n_value_bins(feature), cut = task.cuts[feature];
    const BinOrder order = order_of_bins(2);
    HistCell cells[kRuns] = {};
    uint32_t counts_of_two[kRuns] = {};
    for (int32_t bin = 0; bin <= n_value_bins; ++bin) {
      const int32_t from = bins.order.place(position_of_bin(bin, n_value_bins));
      const int32_t to =
          order.place(position_of_bin(bin == n_value_bins ? kNone : bin > cut, kNone));
      cells[to] += cell_at(bins, from);
      if (counts) counts_of_two[to] += counts[from];
    }
    FeatureSplit best =
        kernels.find_split({cells, nullptr, order, bins.sign}, counts ? counts_of_two : nullptr,
                           int32_t(task.count), rules, at_least);
    best.bin = best.bin == 0 ? cut : n_value_bins - 1;
    return best;
  }

  static HistCell cell_at(const FeatureBins& bins, int32_t place) {
    return bins.lanes ? lane_cell(bins.lanes[place]) : bins.cells[place];
  }
};

}  // namespace qgbdt
