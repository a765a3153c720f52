// A sparse matrix as trees read it: blocks of rows, dense, of the features that the trees use.
#pragma once

#include <stdint.h>

#include <algorithm>
#include <limits>
#include <span>
#include <vector>

#include "binning.h"
#include "support/buffer.h"
#include "support/parallel.h"
#include "tree.h"

namespace qgbdt {

constexpr int64_t kDenseBlockValues = 1 << 22;
constexpr int64_t kMinDenseBlockRows = 256;

// The features that any of the trees splits by or is linear in, ascending.
inline std::vector<int32_t> features_of(std::span<const Tree> trees) {
  std::vector<int32_t> features;
  for (const Tree& tree : trees) {
    for (const Node& node : tree)
      if (node.feature >= 0) features.push_back(node.feature);
    for (const LinearTerm& term : tree.linear.terms) features.push_back(term.feature);
  }
  std::sort(features.begin(), features.end());
  features.erase(std::unique(features.begin(), features.end()), features.end());
  return features;
}

// The same trees for a matrix that has only these features.
inline std::vector<Tree> renumbered(std::vector<Tree> trees, std::span<const int32_t> features) {
  const auto renumber = [&](int32_t& feature) {
    feature =
        int32_t(std::lower_bound(features.begin(), features.end(), feature) - features.begin());
  };
  for (Tree& tree : trees) {
    for (Node& node : tree)
      if (node.feature >= 0) renumber(node.feature);
    for (LinearTerm& term : tree.linear.terms) renumber(term.feature);
  }
  return trees;
}

// Calls visit(first_row, block) for each block of X, whose features are those given.
template <class Visit>
void for_dense_blocks(const SparseView& X, std::span<const int32_t> features, Team& team,
                      const Visit& visit) {
  const int64_t n_features = int64_t(features.size());
  const int64_t block_rows =
      std::max(kMinDenseBlockRows, kDenseBlockValues / std::max<int64_t>(n_features, 1));
  visit_elements(X, [&]<class T>(const T* data) {
    Buffer<T> values(std::min(block_rows, X.n_samples) * n_features);
    for (int64_t begin = 0; begin < X.n_samples; begin += block_rows) {
      const int64_t n = std::min(block_rows, X.n_samples - begin);
      team.run(team.threads_for(n * n_features, kValuesPerThread), n_features, [&](int64_t i, int) {
        T* const column = values.data() + i * n;
        std::fill_n(column, n, X.others_are_missing ? std::numeric_limits<T>::quiet_NaN() : T(0));
        const int32_t* const end = X.rows + X.column_begin[features[i] + 1];
        const int32_t* row = X.rows + X.column_begin[features[i]];
        for (row = std::lower_bound(row, end, begin); row < end && *row < begin + n; ++row)
          column[*row - begin] = data[row - X.rows];
      });
      visit(begin, MatrixView{values.data(), X.is_float32, n, n_features, 1, n});
    }
  });
}

}  // namespace qgbdt
