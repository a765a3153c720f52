#include "leaf_rows.h"

#include <algorithm>
#include <utility>

namespace qgbdt {
namespace {

PartitionTask partition_task(const Tree& tree, const Node& split, const BinnedMatrix& bins,
                             RowRange rows) {
  if (split.is_categorical)
    return {rows, split.feature, 0, split.missing_left, tree.categories(split)};
  const std::vector<double>& thresholds = bins.thresholds(split.feature);
  const auto bin = std::lower_bound(thresholds.begin(), thresholds.end(), split.threshold);
  return {rows, split.feature, int32_t(bin - thresholds.begin()), split.missing_left, {}};
}

}  // namespace

// Level by level.
std::vector<RowRange> rows_of_nodes(Backend& backend, const BinnedMatrix& bins, const Tree& tree,
                                    RowRange rows) {
  std::vector<RowRange> of_nodes(tree.size());
  of_nodes[0] = rows;
  for (std::vector<int32_t> level{0}, next; !level.empty(); level = std::exchange(next, {})) {
    std::vector<int32_t> parents;
    std::vector<PartitionTask> tasks;
    for (int32_t node : level) {
      if (tree[node].feature < 0 || of_nodes[node].size() == 0) continue;
      parents.push_back(node);
      tasks.push_back(partition_task(tree, tree[node], bins, of_nodes[node]));
    }
    if (tasks.empty()) break;
    std::vector<int64_t> left_counts(tasks.size());
    backend.partition(tasks, left_counts);
    for (size_t i = 0; i < parents.size(); ++i) {
      const RowRange of_parent = of_nodes[parents[i]];
      const uint32_t middle = of_parent.begin + uint32_t(left_counts[i]);
      const Node& parent = tree[parents[i]];
      of_nodes[parent.left] = {of_parent.begin, middle};
      of_nodes[parent.right] = {middle, of_parent.end};
      next.insert(next.end(), {parent.left, parent.right});
    }
  }
  return of_nodes;
}

std::vector<RowRange> rows_of_leaves(Backend& backend, std::span<const int32_t> leaf_of_row,
                                     int64_t n_leaves) {
  std::vector<RowRange> of_leaves(n_leaves);
  for (int32_t leaf : leaf_of_row) ++of_leaves[leaf].end;
  uint32_t begin = 0;
  for (RowRange& rows : of_leaves) {
    const uint32_t size = rows.end;
    rows = {begin, begin};
    begin += size;
  }
  std::vector<uint32_t> order(leaf_of_row.size());
  for (size_t row = 0; row < order.size(); ++row)
    order[of_leaves[leaf_of_row[row]].end++] = uint32_t(row);
  backend.set_row_order(order);
  return of_leaves;
}

}  // namespace qgbdt
