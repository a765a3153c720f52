#include "walked_forest.h"

#include <algorithm>
#include <cmath>

#include "support/check.h"

namespace qgbdt {
namespace {

// Walks in step: latencies overlap.
constexpr int kTreesTogether = 4;  // of a row
constexpr int kRowsTogether = 8;   // through a tree

}  // namespace

WalkedForest::WalkedForest(const std::vector<Tree>& trees) {
  size_t n_nodes = 0;
  for (const Tree& tree : trees) n_nodes += tree.size();
  check(n_nodes <= UINT32_MAX, "the model has too many nodes");
  nodes_.reserve(n_nodes);
  values_.reserve(n_nodes);
  const bool is_linear = std::any_of(trees.begin(), trees.end(),
                                     [](const Tree& tree) { return !tree.linear.empty(); });
  std::vector<int32_t> order;  // breadth first
  for (const Tree& tree : trees) {
    const uint32_t root = uint32_t(nodes_.size());
    roots_.push_back(root);
    order.assign(1, 0);
    for (size_t i = 0; i < order.size(); ++i) {
      const Node& node = tree[order[i]];
      values_.push_back(node.value);
      if (is_linear && tree.linear.empty()) linear_.add(0, {});
      else if (is_linear) linear_.add(tree.linear, order[i]);
      if (node.feature >= 0) {
        nodes_.push_back({node.threshold, node.missing_left ? ~node.feature : node.feature,
                          root + uint32_t(order.size())});
        order.insert(order.end(), {node.left, node.right});
        if (node.is_categorical) {
          set_of_node_.resize(nodes_.size(), -1);
          set_of_node_.back() = int32_t(category_sets_.size());
          category_sets_.push_back(tree.categories(node));
        }
      } else {
        nodes_.push_back({HUGE_VAL, ~0, root + uint32_t(i)});
      }
    }
  }
  if (!category_sets_.empty()) set_of_node_.resize(nodes_.size(), -1);
}

template <bool kCategories, class T>
inline uint32_t WalkedForest::step(const WalkNode* nodes, uint32_t at, const T* row,
                                   int64_t column_stride) const {
  const WalkNode node = nodes[at];
  const double x = double(row[node.column() * column_stride]);
  if constexpr (kCategories)
    if (set_of_node_[at] >= 0)
      return node.next(x, x == x && !contains(category_sets_[set_of_node_[at]], x));
  return node.next(x);
}

// Moves at[k] to the leaf of row(k).
template <bool kCategories, int kTogether, class Row>
inline void WalkedForest::walk(uint32_t* at, const Row& row, int64_t column_stride) const {
  const WalkNode* nodes = nodes_.data();
  for (uint32_t moved = 1; moved;) {
    moved = 0;
#pragma GCC unroll 8
    for (int k = 0; k < kTogether; ++k) {
      const uint32_t next = step<kCategories>(nodes, at[k], row(k), column_stride);
      moved |= next ^ at[k];
      at[k] = next;
    }
  }
}

template <bool kLinear, class T>
inline double WalkedForest::leaf_value(uint32_t leaf, const T* row, int64_t column_stride) const {
  if constexpr (kLinear) return linear_.value(leaf, row, column_stride, values_[leaf]);
  return values_[leaf];
}

template <bool kCategories, bool kLinear, class T>
void WalkedForest::add_walks(const T* rows, int64_t row_stride, int64_t column_stride,
                             int64_t n_rows, int64_t begin_tree, int64_t end_tree, int n_outputs,
                             double* scores) const {
  const int64_t fewest = n_rows < kRowsTogether ? 1 : kTreesTogether;
  int64_t t = begin_tree;
  for (; t + fewest <= end_tree; t += kTreesTogether) {
    const int64_t n = std::min<int64_t>(kTreesTogether, end_tree - t);
    uint32_t root[kTreesTogether];
    for (int64_t k = 0; k < kTreesTogether; ++k) root[k] = roots_[t + std::min(k, n - 1)];
    for (int64_t i = 0; i < n_rows; ++i) {
      const T* row = rows + i * row_stride;
      uint32_t at[kTreesTogether];
      std::copy_n(root, kTreesTogether, at);
      walk<kCategories, kTreesTogether>(at, [&](int) { return row; }, column_stride);
      for (int64_t k = 0; k < n; ++k)
        scores[i * n_outputs + (t + k) % n_outputs] +=
            leaf_value<kLinear>(at[k], row, column_stride);
    }
  }
  for (; t < end_tree; ++t) {
    double* to = scores + t % n_outputs;
    for (int64_t i = 0; i < n_rows; i += kRowsTogether) {
      const int64_t n = std::min<int64_t>(kRowsTogether, n_rows - i);
      uint32_t at[kRowsTogether];
      std::fill_n(at, kRowsTogether, roots_[t]);
      const auto row = [&](int k) { return rows + (i + std::min<int64_t>(k, n - 1)) * row_stride; };
      walk<kCategories, kRowsTogether>(at, row, column_stride);
      for (int64_t k = 0; k < n; ++k)
        to[(i + k) * n_outputs] += leaf_value<kLinear>(at[k], row(int(k)), column_stride);
    }
  }
}

template <class T>
void WalkedForest::add(const MatrixView& X, const T* data, int64_t first_row, int64_t n_rows,
                       int64_t begin_tree, int64_t end_tree, int n_outputs, double* scores) const {
  const auto add_some = [&](auto has_categories, auto is_linear) {
    add_walks<has_categories, is_linear>(data + first_row * X.row_stride, X.row_stride,
                                         X.column_stride, n_rows, begin_tree, end_tree, n_outputs,
                                         scores);
  };
  const std::true_type yes;
  const std::false_type no;
  if (category_sets_.empty()) linear_.empty() ? add_some(no, no) : add_some(no, yes);
  else linear_.empty() ? add_some(yes, no) : add_some(yes, yes);
}

template void WalkedForest::add(const MatrixView&, const float*, int64_t, int64_t, int64_t, int64_t,
                                int, double*) const;
template void WalkedForest::add(const MatrixView&, const double*, int64_t, int64_t, int64_t,
                                int64_t, int, double*) const;

}  // namespace qgbdt
