#pragma once

#include <atomic>

#include "cpu_backend.h"

namespace qgbdt {

// A node that is searched, by many threads at once: the best split of each feature, with counts
// unchecked. What is below a split that is sure to be allowed is not looked for.
struct CpuBackend::SearchedNode {
  FindSplitTask task;
  NodeRules rules;
  FeatureSplit* features;
  std::atomic<double> sure_gain{0};

  SearchedNode(const FindSplitTask& task_, const NodeRules& rules_, FeatureSplit* features_)
      : task(task_), rules(rules_), features(features_) {}

  // counts: as in Kernels::find_split.
  void search(const Kernels& kernels, int32_t feature, const FeatureBins& bins,
              const uint32_t* counts = nullptr) {
    if (task.allowed && !task.allowed[feature]) return;
    double sure = sure_gain.load(std::memory_order_relaxed);
    const FeatureSplit best = kernels.find_split(bins, counts, int32_t(task.count), rules, sure);
    features[feature] = best;
    if (best.gain > sure && has_enough_rows(best, rules))
      while (sure < best.gain && !sure_gain.compare_exchange_weak(sure, best.gain)) {
      }
  }
};

}  // namespace qgbdt
