// Which rows end where in a finished tree.
#pragma once

#include <stdint.h>

#include <span>
#include <vector>

#include "backend.h"
#include "binned_matrix.h"
#include "tree.h"

namespace qgbdt {

// Sorts this worker's rows of a range down the tree; returns those of each node.
std::vector<RowRange> rows_of_nodes(Backend& backend, const BinnedMatrix& bins, const Tree& tree,
                                    RowRange rows);

// Lays this worker's rows leaf by leaf, as they are told; returns those of each leaf.
std::vector<RowRange> rows_of_leaves(Backend& backend, std::span<const int32_t> leaf_of_row,
                                     int64_t n_leaves);

}  // namespace qgbdt
