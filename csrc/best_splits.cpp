#include "best_splits.h"

#include <algorithm>

namespace qgbdt {

std::vector<SplitCandidate> best_splits(std::span<const FeatureSplit> features,
                                        FeatureRange searched, const NodeRules& rules, int32_t n) {
  std::vector<SplitCandidate> best;
  for (int32_t f = searched.begin; f < searched.end; ++f) {
    const FeatureSplit& split = features[f];
    const bool is_full = int32_t(best.size()) == n;
    if (!(split.gain > (is_full ? best.back().gain : 0))) continue;
    if (is_full) best.pop_back();
    const auto place = std::find_if(best.begin(), best.end(),
                                    [&](const SplitCandidate& b) { return b.gain < split.gain; });
    best.insert(place, {split.gain, split.left, f, split.bin, split.missing_left,
                        has_enough_rows(split, rules)});
  }
  const auto allowed =
      std::find_if(best.begin(), best.end(), [](const SplitCandidate& b) { return b.is_allowed; });
  if (allowed != best.end()) best.erase(allowed + 1, best.end());
  return best;
}

}  // namespace qgbdt
