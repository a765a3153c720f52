#include "leaf_values.h"

namespace qgbdt {

std::vector<double> leaf_values(const Tree& tree, std::span<const int32_t> leaf_nodes,
                                std::span<const LeafSums> leaves, double gradient_step,
                                double hessian_step, std::span<const int8_t> signs,
                                const SplitParams& params) {
  const auto value_of = [&](const LeafSums& sums, int64_t n_rows, const Bounds& bounds) {
    return bounded_value(double(sums.gradient) * gradient_step, double(sums.hessian) * hessian_step,
                         double(n_rows), bounds, params);
  };
  std::vector<Bounds> bounds(tree.size());
  if (params.limits_values) {
    std::vector<LeafSums> sums(tree.size());
    for (size_t i = 0; i < leaves.size(); ++i) sums[leaf_nodes[i]] = leaves[i];
    for (size_t i = tree.size(); i-- > 0;) {  // children come after their parent
      if (tree[i].feature < 0) continue;
      const LeafSums &left = sums[tree[i].left], &right = sums[tree[i].right];
      sums[i] = {left.gradient + right.gradient, left.hessian + right.hessian};
    }
    bounds[0].above = leaf_value(double(sums[0].gradient) * gradient_step,
                                 double(sums[0].hessian) * hessian_step, params);
    for (size_t i = 0; i < tree.size(); ++i) {
      if (tree[i].feature < 0) continue;
      const int32_t left = tree[i].left, right = tree[i].right;
      const Bounds of_sides =
          with_value_above(bounds[i], value_of(sums[i], tree[i].count, bounds[i]));
      const ChildBounds of_children =
          child_bounds(of_sides, signs.empty() ? 0 : signs[tree[i].feature],
                       value_of(sums[left], tree[left].count, of_sides),
                       value_of(sums[right], tree[right].count, of_sides));
      bounds[left] = of_children.left;
      bounds[right] = of_children.right;
    }
  }
  std::vector<double> values;
  for (size_t i = 0; i < leaves.size(); ++i)
    values.push_back(value_of(leaves[i], tree[leaf_nodes[i]].count, bounds[leaf_nodes[i]]));
  return values;
}

}  // namespace qgbdt
