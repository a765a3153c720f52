// Which features a tree, and each of its nodes, may be split by, and where: shares of them that are
// drawn, sets that may meet on a path from the root, and cuts that are drawn.
#pragma once

#include <stdint.h>

#include <span>
#include <vector>

#include "binned_matrix.h"
#include "params.h"

namespace qgbdt {

class FeatureChoice {
 public:
  // Of the features that have anything to split. An output's tree of an iteration draws its own.
  FeatureChoice(const BinnedMatrix& bins, const TrainParams& params, int64_t iteration, int output);

  // Those whose histograms the tree needs.
  FeatureMask of_tree() const;

  uint64_t root_key() const { return root_key_; }
  // A node's place in the tree, whenever it was grown.
  static uint64_t child_key(uint64_t key, bool right);

  // used: the features of the splits above the node.
  FeatureMask of_node(uint64_t key, std::span<const int32_t> used) const;

  // Of each feature the bin after which the node may be cut; empty: after any.
  std::vector<uint8_t> cuts_of_node(uint64_t key) const;

  // The same two of a node that is to be split by one of params.forced_splits.
  FeatureMask of_forced(int32_t split) const;
  std::vector<uint8_t> cuts_of_forced(int32_t split) const;

 private:
  void keep_sets(std::span<const int32_t> used, FeatureMask* allowed) const;

  const BinnedMatrix& bins_;
  const TrainParams& params_;
  uint64_t root_key_;
  FeatureMask of_tree_;
  bool nodes_differ_;
};

}  // namespace qgbdt
