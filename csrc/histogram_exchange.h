// Histograms between workers: each sends every other, of each node, the part that the other
// searches.
//
// Of a node with many rows that is cells. Of one with few it may be the rows themselves, a byte a
// value: fewer bytes than their sums, nothing to build for others, and nothing to look for among
// empty cells. On wide data most nodes are such.
//
//   message   sizes of the nodes' parts (int64), numbers that all workers add (int64), and the
//             parts; a part's first byte is its kind of histogram_codec.h
#pragma once

#include <stdint.h>

#include <functional>
#include <vector>

#include "binned_matrix.h"
#include "comm.h"
#include "support/bytes.h"
#include "support/parallel.h"
#include "types.h"

namespace qgbdt {

// The features that a worker searches: about an equal part of the cells, in the order of ranks.
FeatureRange searched_features(const BinnedMatrix& bins, int rank, int world_size);

enum PartKind : uint8_t { kCellsPart, kRowsPart };

// Appends a node's part of some features, from the node's cells of all features.
void pack_cells_part(const BinnedMatrix& bins, FeatureRange features, const HistCell* cells,
                     Bytes* part);

// The part of a node for the worker that searches these features.
using PackPart = std::function<Bytes(int64_t node, FeatureRange features)>;

// What the other workers have of n_nodes nodes for this one: [other workers][nodes]. In the same
// exchange counts become those of all workers.
std::vector<std::vector<Bytes>> exchange_parts(int64_t n_nodes, std::span<int64_t> counts,
                                               const BinnedMatrix& bins, const PackPart& pack,
                                               Comm& comm, Team& team, int n_threads);

// cells, which begin with those of the first feature, += the part. wide: rows are of 16 bits.
void add_part(const Bytes& part, const BinnedMatrix& bins, FeatureRange features, bool wide,
              HistCell* cells);

// Throws WorkersDiffer unless the cells, which begin with those of the first feature, sum to the
// node's total for each.
void check_sums(const HistCell* cells, const BinnedMatrix& bins, FeatureRange features,
                HistCell total);

}  // namespace qgbdt
