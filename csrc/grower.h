// Grows one tree, leaf-wise (best first), on any machine and any number of workers.
#pragma once

#include <vector>

#include "backend.h"
#include "binned_matrix.h"
#include "comm.h"
#include "feature_choice.h"
#include "params.h"
#include "tree.h"

namespace qgbdt {

struct GrownTree {
  Tree nodes;                         // leaf values still to come
  std::vector<int32_t> leaf_nodes;    // node ids of the leaves,
  std::vector<RowRange> leaf_rows;    // their rows on this worker,
  std::vector<RowRange> other_rows;   // those that the tree was not grown on,
  std::vector<HistCell> leaf_totals;  // and the sums of their quantized gradients
};

// What growing cost, for reports: rounds are batches of nodes expanded together.
struct GrowthReport {
  int64_t rounds = 0, splits = 0, expansions = 0;
};

// `root_total` and `n_rows` are those of the rows in use, over all workers.
GrownTree grow_tree(Backend& backend, Comm& comm, const BinnedMatrix& bins,
                    const TrainParams& params, const SplitParams& split_params,
                    const FeatureChoice& features, HistCell root_total, int64_t n_rows,
                    GrowthReport& report);

}  // namespace qgbdt
