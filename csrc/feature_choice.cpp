#include "feature_choice.h"

#include <algorithm>
#include <utility>

#include "support/rng.h"

namespace qgbdt {
namespace {

// The numbers of streams of samples, beside that of row_sample.h; plus the output.
constexpr uint64_t kTreeSampleStream = uint64_t(2) << 32, kNodeSampleStream = uint64_t(3) << 32;

// What a node's key is changed by: for its children, and for its cuts.
constexpr uint64_t kLeft = 1, kRight = 2, kCuts = 3;

// Of the allowed features a share, rounded, but one at least: those of the smallest hashes.
void keep_share(double share, uint64_t key, FeatureMask* allowed) {
  std::vector<std::pair<uint32_t, size_t>> features;
  for (size_t f = 0; f < allowed->size(); ++f)
    if ((*allowed)[f]) features.emplace_back(row_hash(key, f), f);
  const size_t n_kept = std::max<size_t>(1, size_t(share * double(features.size()) + 0.5));
  if (n_kept >= features.size()) return;
  std::nth_element(features.begin(), features.begin() + n_kept, features.end());
  for (auto dropped = features.begin() + n_kept; dropped != features.end(); ++dropped)
    (*allowed)[dropped->second] = 0;
}

}  // namespace

FeatureChoice::FeatureChoice(const BinnedMatrix& bins, const TrainParams& params, int64_t iteration,
                             int output)
    : bins_(bins),
      params_(params),
      root_key_(stream_key(params.seed, uint64_t(iteration), kNodeSampleStream + output)),
      nodes_differ_(params.colsample_bynode < 1 || params.limits_interactions()) {
  if (!(params.colsample_bytree < 1) && !nodes_differ_) return;
  for (int32_t f = 0; f < bins.n_features(); ++f)
    of_tree_.push_back(bins.n_value_bins(f) + bins.has_missing(f) > 1);
  if (params.colsample_bytree < 1)
    keep_share(params.colsample_bytree,
               stream_key(params.seed, uint64_t(iteration), kTreeSampleStream + output), &of_tree_);
}

FeatureMask FeatureChoice::of_tree() const {
  FeatureMask needed = of_tree_;
  if (!needed.empty())
    for (const ForcedSplit& split : params_.forced_splits) needed[split.feature] = 1;
  return needed;
}

FeatureMask FeatureChoice::of_forced(int32_t split) const {
  FeatureMask allowed(bins_.n_features());
  allowed[params_.forced_splits[split].feature] = 1;
  return allowed;
}

std::vector<uint8_t> FeatureChoice::cuts_of_forced(int32_t split) const {
  const auto [feature, threshold, left, right] = params_.forced_splits[split];
  const std::vector<double>& thresholds = bins_.thresholds(feature);
  std::vector<uint8_t> cuts(bins_.n_features());
  cuts[feature] = uint8_t(std::lower_bound(thresholds.begin(), thresholds.end(), threshold) -
                          thresholds.begin());
  return cuts;
}

uint64_t FeatureChoice::child_key(uint64_t key, bool right) {
  return mix64(key ^ (right ? kRight : kLeft));
}

FeatureMask FeatureChoice::of_node(uint64_t key, std::span<const int32_t> used) const {
  FeatureMask allowed = of_tree_;
  if (!nodes_differ_) return allowed;
  if (!params_.interaction_sets.empty()) keep_sets(used, &allowed);
  if (params_.most_interacting > 0 && int64_t(used.size()) >= params_.most_interacting)
    for (size_t f = 0; f < allowed.size(); ++f)
      allowed[f] &= std::find(used.begin(), used.end(), int32_t(f)) != used.end();
  if (params_.colsample_bynode < 1) keep_share(params_.colsample_bynode, key, &allowed);
  return allowed;
}

std::vector<uint8_t> FeatureChoice::cuts_of_node(uint64_t key) const {
  std::vector<uint8_t> cuts;
  if (!params_.extra_trees) return cuts;
  const uint64_t of_cuts = mix64(key ^ kCuts);
  for (int32_t f = 0; f < bins_.n_features(); ++f) {
    const uint64_t n_cuts = uint64_t(std::max(bins_.n_value_bins(f) - 1, 1));
    cuts.push_back(uint8_t(row_hash(of_cuts, uint64_t(f)) * n_cuts >> 32));
  }
  return cuts;
}

// The features that are in a set with all those used.
void FeatureChoice::keep_sets(std::span<const int32_t> used, FeatureMask* allowed) const {
  const size_t n = allowed->size();
  FeatureMask together(n);
  for (auto set = params_.interaction_sets.begin(); set != params_.interaction_sets.end(); set += n)
    if (std::all_of(used.begin(), used.end(), [&](int32_t f) { return set[f] != 0; }))
      for (size_t f = 0; f < n; ++f) together[f] |= set[f];
  for (size_t f = 0; f < n; ++f) (*allowed)[f] &= together[f];
}

}  // namespace qgbdt
