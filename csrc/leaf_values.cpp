#include "leaf_values.h"

namespace qgbdt {

std::vector<double> leaf_values(const Tree& tree, std::span<const int32_t> leaf_nodes,
                                std::span<const LeafSums> leaves, double gradient_step,
                                double hessian_step, std::span<const int8_t> signs,
                                const SplitParams& params) {
  const auto value_of = [&](const LeafSums& sums, const Bounds& bounds) {
    return bounded_value(double(sums.gradient) * gradient_step, double(sums.hessian) * hessian_step,
                         bounds, params);
  };
  std::vector<Bounds> bounds(tree.size());
  if (params.is_monotone) {
    std::vector<LeafSums> sums(tree.size());
    for (size_t i = 0; i < leaves.size(); ++i) sums[leaf_nodes[i]] = leaves[i];
    for (size_t i = tree.size(); i-- > 0;) {  // children come after their parent
      if (tree[i].feature < 0) continue;
      const LeafSums &left = sums[tree[i].left], &right = sums[tree[i].right];
      sums[i] = {left.gradient + right.gradient, left.hessian + right.hessian};
    }
    for (size_t i = 0; i < tree.size(); ++i) {
      if (tree[i].feature < 0) continue;
      const ChildBounds of_children =
          child_bounds(bounds[i], signs[tree[i].feature], value_of(sums[tree[i].left], bounds[i]),
                       value_of(sums[tree[i].right], bounds[i]));
      bounds[tree[i].left] = of_children.left;
      bounds[tree[i].right] = of_children.right;
    }
  }
  std::vector<double> values;
  for (size_t i = 0; i < leaves.size(); ++i)
    values.push_back(value_of(leaves[i], bounds[leaf_nodes[i]]));
  return values;
}

}  // namespace qgbdt
