#include "predictor.h"

#include <algorithm>

#include "objective.h"

namespace qgbdt {
namespace {

constexpr int64_t kRowBlock = 64;  // a block's rows stay in cache while every tree passes over them

// 24 bytes a node; right child = left child + 1 is not assumed.
struct FlatNode {
  double threshold_or_value;
  int32_t feature;   // -1: leaf
  int32_t child[2];  // left, right
  bool missing_left;
};

struct Forest {
  std::vector<FlatNode> nodes;
  std::vector<int64_t> roots;
};

Forest flatten(const Model& model, int64_t begin_tree, int64_t end_tree) {
  Forest forest;
  for (int64_t t = begin_tree; t < end_tree; ++t) {
    forest.roots.push_back(int64_t(forest.nodes.size()));
    for (const Node& node : model.trees[t])
      forest.nodes.push_back({node.feature >= 0 ? node.threshold : node.value,
                              node.feature,
                              {node.left, node.right},
                              node.missing_left});
  }
  return forest;
}

template <class T>
double leaf_of(const FlatNode* tree, const T* row, int64_t column_stride) {
  const FlatNode* node = tree;
  while (node->feature >= 0) {
    const double x = double(row[node->feature * column_stride]);
    const bool left = x <= node->threshold_or_value || (x != x && node->missing_left);
    node = tree + node->child[!left];
  }
  return node->threshold_or_value;
}

void apply_link(Link link, double* scores, int n_outputs) {
  switch (link) {
    case Link::identity: break;
    case Link::logistic: scores[0] = sigmoid(scores[0]); break;
    case Link::exponential: scores[0] = exp(scores[0]); break;
    case Link::softmax: {
      const double largest = *std::max_element(scores, scores + n_outputs);
      double sum = 0;
      for (int k = 0; k < n_outputs; ++k) sum += scores[k] = exp(scores[k] - largest);
      for (int k = 0; k < n_outputs; ++k) scores[k] /= sum;
      break;
    }
  }
}

}  // namespace

void predict(const Model& model, const MatrixView& X, int64_t begin_iteration,
             int64_t end_iteration, bool raw, Team& team, double* out) {
  const int K = model.n_outputs;
  const Forest forest = flatten(model, begin_iteration * K, end_iteration * K);
  const int64_t n_trees = int64_t(forest.roots.size());
  const Link link =
      visit_objective(model.objective, [](auto objective) { return decltype(objective)::kLink; });
  const int threads = team.threads_for(X.n_samples * n_trees, kTreesPerThread);
  visit_elements(X, [&]<class T>(const T* data) {
    team.run_blocks(threads, X.n_samples, kRowBlock, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i)
        std::copy(model.base_score.begin(), model.base_score.end(), out + i * K);
      for (int64_t t = 0; t < n_trees; ++t)
        for (int64_t i = begin; i < end; ++i)
          out[i * K + t % K] +=
              leaf_of(&forest.nodes[forest.roots[t]], data + i * X.row_stride, X.column_stride);
      if (!raw)
        for (int64_t i = begin; i < end; ++i) apply_link(link, out + i * K, K);
    });
  });
}

}  // namespace qgbdt
