// Trees as nodes to walk from the root: what a single row wants, and forests that bit slices do not
// suit.
#pragma once

#include <stdint.h>

#include <vector>

#include "binning.h"
#include "tree.h"
#include "walk_node.h"

namespace qgbdt {

class WalkedForest {
 public:
  explicit WalkedForest(const std::vector<Tree>& trees);

  // scores[i * n_outputs + t % n_outputs] += the leaf of row first_row + i in tree t, for t in
  // [begin_tree, end_tree) in this order and i in [0, n_rows).
  template <class T>
  void add(const MatrixView& X, const T* data, int64_t first_row, int64_t n_rows,
           int64_t begin_tree, int64_t end_tree, int n_outputs, double* scores) const;

  // What a walk elsewhere needs, where no feature is categorical and no leaf linear.
  const std::vector<WalkNode>& nodes() const { return nodes_; }
  const std::vector<double>& values() const { return values_; }
  const std::vector<uint32_t>& roots() const { return roots_; }

 private:
  template <bool kCategories, class T>
  uint32_t step(const WalkNode* nodes, uint32_t at, const T* row, int64_t column_stride) const;

  template <bool kCategories, int kTogether, class Row>
  void walk(uint32_t* at, const Row& row, int64_t column_stride) const;

  template <bool kLinear, class T>
  double leaf_value(uint32_t leaf, const T* row, int64_t column_stride) const;

  template <bool kCategories, bool kLinear, class T>
  void add_walks(const T* rows, int64_t row_stride, int64_t column_stride, int64_t n_rows,
                 int64_t begin_tree, int64_t end_tree, int n_outputs, double* scores) const;

  std::vector<WalkNode> nodes_;  // breadth first, tree after tree
  std::vector<double> values_;   // of the leaves among them
  std::vector<uint32_t> roots_;
  std::vector<CategorySet> category_sets_;
  std::vector<int32_t> set_of_node_;  // -1 where it has none; empty without any
  LinearLeaves linear_;               // of all nodes, or empty
};

}  // namespace qgbdt
