// ---- split: the best set of categories of one categorical feature of one node, a block each ----
//
// Each thread finds the places of some categories in the order of slopes, by counting those before
// them; one thread tries the few sets that come into question.
#pragma once

#include "../category_split.h"
#include "find_split.h"
#include "launch.h"

namespace qgbdt {

struct FindCategorySplit {
  static constexpr int kThreads = 64;
  struct Shared {
    CategoryBins bins;
    double slope[kBinPlaces];
    bool has_place[kBinPlaces];
    int32_t order[kBinPlaces];
  };

  const DeviceNode* nodes;
  const int32_t* categorical;  // [n_categorical], features
  int32_t n_categorical;
  const DeviceFeature* features;
  int32_t n_features;
  RowCounts row_counts;
  FeatureSplit* splits;     // [nodes][n_features]
  CategorySet* categories;  // [nodes][n_categorical]: those that go left

  QGBDT_FN const DeviceNode& node_of(const At& at) const { return nodes[at.block / n_categorical]; }
  QGBDT_FN int32_t feature_of(const At& at) const { return categorical[at.block % n_categorical]; }

  QGBDT_FN void load(const At& at, Shared& shared) const {
    const DeviceFeature& feature = features[feature_of(at)];
    CategoryBins& bins = shared.bins;
    if (at.thread == 0) {
      bins.n_categories = feature.missing_bin;
      bins.total_count = row_counts.of_places ? row_counts.of_node : 0;
    }
    for (int32_t bin = at.thread; bin <= feature.missing_bin; bin += kThreads) {
      const int32_t place = feature.order.place(position_of_bin(bin, feature.missing_bin));
      bins.sums[bin] = node_of(at).cells[feature.cell_offset + place];
      bins.counts[bin] = row_counts.of_places ? row_counts.of_places[place] : 0;
    }
  }

  QGBDT_FN void find_slopes(const At& at, Shared& shared) const {
    const CategorySearch search(shared.bins, node_of(at).rules);
    for (int32_t bin = at.thread; bin <= shared.bins.n_categories; bin += kThreads) {
      shared.has_place[bin] = search.has_place(bin);
      shared.slope[bin] = search.slope(bin);
    }
  }

  QGBDT_FN void put_into_order(const At& at, Shared& shared) const {
    for (int32_t bin = at.thread; bin <= shared.bins.n_categories; bin += kThreads) {
      if (!shared.has_place[bin]) continue;
      int32_t n_before = 0;
      for (int32_t other = 0; other <= shared.bins.n_categories; ++other)
        n_before += shared.has_place[other] &&
                    CategorySearch::is_before(shared.slope[other], other, shared.slope[bin], bin);
      shared.order[n_before] = bin;
    }
  }

  QGBDT_FN void search(const At& at, Shared& shared) const {
    if (at.thread != 0) return;
    const DeviceNode& node = node_of(at);
    CategorySearch search(shared.bins, node.rules);
    if (search.needs_order()) {
      int32_t n = 0;
      for (int32_t bin = 0; bin <= shared.bins.n_categories; ++bin) n += shared.has_place[bin];
      search.search_in_order(shared.order, n);
    } else {
      search.search_each();
    }
    FeatureSplit best = search.best(&categories[at.block]);
    if (!node.is_searched) best.gain = 0;
    splits[at.block / n_categorical * n_features + feature_of(at)] = best;
  }

  using Steps = StepList<&FindCategorySplit::load, &FindCategorySplit::find_slopes,
                         &FindCategorySplit::put_into_order, &FindCategorySplit::search>;
};

}  // namespace qgbdt
