// Which rows end where in a finished tree.
#pragma once

#include <vector>

#include "backend.h"
#include "binned_matrix.h"
#include "tree.h"

namespace qgbdt {

// Sorts this worker's rows of a range down the tree; returns those of each node.
std::vector<RowRange> rows_of_nodes(Backend& backend, const BinnedMatrix& bins, const Tree& tree,
                                    RowRange rows);

}  // namespace qgbdt
