// ---- prediction: a thread a row, tree after tree ----
#pragma once

#include "../walk_node.h"
#include "geometry.h"
#include "launch.h"

namespace qgbdt {

// Adds an output's trees to its score in their order, as the CPU does.
template <class T>
struct WalkTrees {
  static constexpr int kThreads = 256;
  using Shared = NothingShared;

  const T* rows;
  int64_t row_stride, column_stride, n_rows;
  const WalkNode* nodes;
  const double* values;   // of the leaves among them
  const uint32_t* roots;  // [n_trees]
  int64_t n_trees;
  int n_outputs;
  double* scores;  // [n_rows][n_outputs]

  QGBDT_FN void walk(const At& at, Shared&) const {
    const int64_t i = at.block * kThreads + at.thread;
    if (i >= n_rows) return;
    const T* const row = rows + i * row_stride;
    for (int k = 0; k < n_outputs; ++k) {
      double score = scores[i * n_outputs + k];
      for (int64_t t = k; t < n_trees; t += n_outputs) score += values[leaf(roots[t], row)];
      scores[i * n_outputs + k] = score;
    }
  }

  QGBDT_FN uint32_t leaf(uint32_t at, const T* row) const {
    for (;;) {
      const WalkNode node = nodes[at];
      const uint32_t next = node.next(double(row[node.column() * column_stride]));
      if (next == at) return at;
      at = next;
    }
  }

  using Steps = StepList<&WalkTrees::walk>;
};

}  // namespace qgbdt
