// ---- split: the best cut of one feature of one node, a block each ----
//
// Cells are put into the order of positions, each thread sums a run of them, and every cut's gain
// is taken, in float64: 256 cuts with two to four divisions are less than what reads them. A node
// that has the parent's cells subtracts its sibling's first.
#pragma once

#include "../bin_order.h"
#include "../split.h"
#include "histogram.h"
#include "launch.h"

namespace qgbdt {

struct DeviceNode {
  HistCell* cells;          // all features
  const HistCell* sibling;  // to be subtracted, or null
  NodeRules rules;
  bool is_searched;     // or there to be subtracted only
  const uint8_t* cuts;  // [n_features], as of a FindSplitTask, and the next
  bool only_cuts;
};

// Rows in each place of the one feature that is searched, and of the node; or null.
struct RowCounts {
  const uint32_t* of_places;
  int32_t of_node;
};

struct FindSplit {
  static constexpr int kThreads = 64;
  struct Shared {
    HistCell cells[kBinPlaces];  // by position
    uint32_t counts[kBinPlaces];
    Partials<HistCell, kThreads> runs;
    Partials<uint32_t, kThreads> run_counts;
    FeatureSplit best[kThreads];
  };

  const DeviceNode* nodes;
  FeatureRange searched;
  const DeviceFeature* features;
  int32_t n_features;
  RowCounts row_counts;
  FeatureSplit* splits;  // [nodes][n_features]

  QGBDT_FN int64_t node_of(const At& at) const {
    return at.block / (searched.end - searched.begin);
  }
  QGBDT_FN int32_t feature_of(const At& at) const {
    return searched.begin + int32_t(at.block % (searched.end - searched.begin));
  }
  QGBDT_FN int32_t run_length(const At& at) const {
    const int32_t n_places = features[feature_of(at)].order.n_places();
    return n_places > kThreads ? n_places / kThreads : 1;
  }

  QGBDT_FN void load(const At& at, Shared& shared) const {
    const DeviceNode& node = nodes[node_of(at)];
    const DeviceFeature& feature = features[feature_of(at)];
    HistCell* const cells = node.cells + feature.cell_offset;
    const HistCell* const sibling = node.sibling ? node.sibling + feature.cell_offset : nullptr;
    for (int32_t place = at.thread; place < kBinPlaces; place += kThreads) {
      const bool is_there = place < feature.order.n_places();
      HistCell cell = is_there ? cells[place] : 0;
      if (is_there && sibling) cells[place] = cell -= sibling[place];
      const int32_t position = is_there ? feature.order.position(place) : place;
      shared.cells[position] = cell;
      shared.counts[position] = row_counts.of_places && is_there ? row_counts.of_places[place] : 0;
    }
  }

  QGBDT_FN void sum_runs(const At& at, Shared& shared) const {
    const int32_t length = run_length(at), begin = at.thread * length;
    HistCell sum = 0;
    uint32_t count = 0;
    for (int32_t i = begin; i < begin + length; ++i) {
      sum += shared.cells[i];
      count += shared.counts[i];
    }
    shared.runs.of_thread[at.thread] = sum;
    shared.run_counts.of_thread[at.thread] = count;
  }

  // Missing values count as right of every cut.
  QGBDT_FN void scan_runs(const At& at, Shared& shared) const {
    if (at.thread == 0) shared.runs.sums_before(-shared.cells[kMissingPosition]);
    if (at.thread == 1) shared.run_counts.sums_before(0 - shared.counts[kMissingPosition]);
  }

  QGBDT_FN void search(const At& at, Shared& shared) const {
    const DeviceNode& node = nodes[node_of(at)];
    const DeviceFeature& feature = features[feature_of(at)];
    const int32_t last_bin = feature.missing_bin - 1;
    const HistCell missing = shared.cells[kMissingPosition];
    const uint32_t n_missing = shared.counts[kMissingPosition];
    const int32_t length = run_length(at), begin = at.thread * length;
    HistCell left = shared.runs.of_thread[at.thread];
    uint32_t count = shared.run_counts.of_thread[at.thread];
    FeatureSplit best{0, 0, 0, false, row_counts.of_places != nullptr};
    for (int32_t position = begin; position < begin + length; ++position) {
      left += shared.cells[position];
      count += shared.counts[position];
      if (position == kMissingPosition) continue;  // nothing | all, or the same as values | missing
      const int32_t bin = bin_of_position(position);
      if (node.cuts && bin != node.cuts[feature_of(at)] && (node.only_cuts || bin != last_bin))
        continue;
      compare(left, int32_t(count), bin, false, feature.sign, node.rules, &best);
      if (missing != 0 || n_missing != 0)
        compare(left + missing, int32_t(count + n_missing), bin, true, feature.sign, node.rules,
                &best);
    }
    shared.best[at.thread] = best;
  }

  // Of equal gains the first cut is the best.
  QGBDT_FN void finish(const At& at, Shared& shared) const {
    if (at.thread != 0) return;
    const DeviceNode& node = nodes[node_of(at)];
    FeatureSplit best = shared.best[0];
    for (int i = 1; i < kThreads; ++i)
      if (shared.best[i].gain > best.gain) best = shared.best[i];
    if (!node.is_searched || !(best.gain > gain_threshold(node.rules.score, node.rules.params)))
      best.gain = 0;
    splits[node_of(at) * n_features + feature_of(at)] = best;
  }

  using Steps = StepList<&FindSplit::load, &FindSplit::sum_runs, &FindSplit::scan_runs,
                         &FindSplit::search, &FindSplit::finish>;

 private:
  QGBDT_FN void compare(HistCell left, int32_t count, int32_t bin, bool missing_left, int32_t sign,
                        const NodeRules& rules, FeatureSplit* best) const {
    const int32_t min_count = rules.params.min_child_samples;
    const bool is_counted = row_counts.of_places != nullptr;
    if (is_counted && (count < min_count || row_counts.of_node - count < min_count)) return;
    const double gain = split_gain(left, sign, rules);
    if (gain > best->gain) *best = {gain, left, bin, missing_left, is_counted};
  }
};

}  // namespace qgbdt
