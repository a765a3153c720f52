// The table of kernels: one implementation per SIMD level, all compiled from kernels.inc, all equal
// to the last bit. Pointers and sizes only: files compiled for one SIMD level must not instantiate
// library code, or the linker could keep an AVX-512 copy of it for every machine.
#pragma once

#include <stdint.h>

#include "../bin_order.h"
#include "../bin_search.h"
#include "../bit_slices.h"
#include "../objective.h"
#include "../quantize.h"
#include "../split.h"
#include "../types.h"

namespace qgbdt {

// The rows' targets, weights and raw predictions. Arrays of outputs are output-major:
// [n_outputs][n].
struct RowData {
  int64_t n_samples;
  int32_t n_outputs;
  const double* target;  // [n_targets][n]
  const double* weight;  // or null
  double* raw_prediction;
  float* gradient;
  float* hessian;
};

struct RankingData {
  const int64_t* query_begin;     // [n_queries + 1]
  const double* inverse_max_dcg;  // [n_queries]
  int32_t truncation_level;
};

struct Document {
  double score, gain, discount;
  int64_t position;  // in the query
};

struct Rivals {  // documents, array by array; room for whole_rival_lanes(longest query)
  double *score, *gain, *discount;
  int64_t* position;
};

constexpr int64_t kRivalLanes = 8;  // the loops over rivals go on to a multiple of it
QGBDT_FN int64_t whole_rival_lanes(int64_t n) {
  return (n + kRivalLanes - 1) / kRivalLanes * kRivalLanes;
}

struct RankingScratch {
  Rivals rivals;
  double *g, *h;  // [longest query]
};

struct TileView {
  const uint8_t* bins;
  int32_t stride;
  int32_t n_bytes;  // of these, in use
};

// A bundle of features (bundle.h): each one's positions, and where they are in its histogram.
struct BundleView {
  const int32_t* n_positions;
  const BinOrder* orders;
  int32_t n_features;
};

struct SparseTileView {
  const uint32_t* row_begin;
  const uint16_t* entries;  // cell in the tile
};

struct FeatureBins {  // one feature's part of a node's histogram, as cells or as lanes
  const HistCell* cells;
  const uint32_t* lanes;  // or null
  BinOrder order;
  int32_t sign;  // +1 if values may not fall with the feature, -1 if they may not rise
};

struct Kernels {
  const char* name;

  BinKernels binning;

  // Gradients of rows [begin, end), all outputs; ranges is [n_outputs], widened.
  void (*gradients)(ObjectiveKind, const ObjectiveArgs&, const RowData&, int64_t begin, int64_t end,
                    GradientRange* ranges);
  // Gradients of one query; documents[rank] are its documents.
  void (*query_gradients)(const RankingData&, const RowData&, int64_t query,
                          const Document* documents, const RankingScratch&, GradientRange* range);
  // The same for rank_xendcg, of the query of rows [begin, begin + n), whose relevances are in g.
  void (*xendcg_gradients)(const RowData&, int64_t begin, int64_t n, const RankingScratch&,
                           GradientRange* range);

  // Widens by the magnitudes of n floats.
  void (*measure)(const float*, int64_t n, Magnitudes*);

  // Rounds rows [begin, end) of one output; returns the sum. Among the rows of all workers, row
  // i has the number first_row + i.
  HistCell (*quantize8)(const Quantization&, const float* g, const float* h, int64_t first_row,
                        int64_t begin, int64_t end, Pair8* out);
  HistCell (*quantize16)(const Quantization&, const float* g, const float* h, int64_t first_row,
                         int64_t begin, int64_t end, Pair16* out);

  // lanes[i * kBinPlaces + byte i] += the row's pair, for the listed rows.
  void (*add_rows8)(const TileView&, const uint32_t* rows, int64_t n, const Pair8* pairs,
                    uint32_t* lanes);
  void (*add_rows16)(const TileView&, const uint32_t* rows, int64_t n, const Pair16* pairs,
                     HistCell* lanes);
  // The same for a sparse tile, without default places, into its lanes or cells side by side. Those
  // of features that nobody will look at may hold anything.
  void (*add_sparse_rows8)(const SparseTileView&, const uint32_t* rows, int64_t n,
                           const Pair8* pairs, uint32_t* lanes);
  void (*add_sparse_cells8)(const SparseTileView&, const uint32_t* rows, int64_t n,
                            const Pair8* pairs, HistCell* cells);
  void (*add_sparse_cells16)(const SparseTileView&, const uint32_t* rows, int64_t n,
                             const Pair16* pairs, HistCell* cells);
  // The sum of a feature's places.
  uint32_t (*total8)(const uint32_t* lanes, int64_t n);
  HistCell (*total16)(const HistCell* cells, int64_t n);
  // Sums of the places of a bundle's features, side by side, from those of its codes, which are
  // used up.
  void (*part_bundle8)(const BundleView&, uint32_t* codes, uint32_t* places);
  void (*part_bundle16)(const BundleView&, HistCell* codes, HistCell* places);
  // cells += lanes of one feature.
  void (*flush8)(const uint32_t* lanes, int64_t n, HistCell* cells);
  void (*flush16)(const HistCell* lanes, int64_t n, HistCell* cells);
  // cells -= lanes of one feature.
  void (*subtract8)(const uint32_t* lanes, int64_t n, HistCell* cells);
  void (*subtract16)(const HistCell* lanes, int64_t n, HistCell* cells);

  // What is below bound_of_gain(gain, rules) only if no split of the feature gains that much.
  float (*bound_splits)(const FeatureBins&, const NodeRules&);
  // The best split of one feature, or none if its gain is below at_least. counts: exact rows per
  // place and of the node, or null to leave them unchecked.
  FeatureSplit (*find_split)(const FeatureBins&, const uint32_t* counts, int32_t total_count,
                             const NodeRules&, double at_least);

  // How many of n rows go left.
  int64_t (*count_left)(const uint32_t* rows, int64_t n, const uint8_t* column, int32_t bin,
                        int32_t missing_left_bin);
  // Stable: left rows to the front of `rows`, right rows to right[0..]; returns how many went left.
  // right is [n].
  int64_t (*partition)(uint32_t* rows, int64_t n, const uint8_t* column, int32_t bin,
                       int32_t missing_left_bin, uint32_t* right);

  // The same where goes_left[bin] says who goes left.
  int64_t (*partition_categories)(uint32_t* rows, int64_t n, const uint8_t* column,
                                  const bool* goes_left, uint32_t* right);

  // leaf_of_row[row] = leaf for the listed rows; and for rows [begin, end) what depends on it.
  void (*mark_leaf)(const uint32_t* rows, int64_t n, uint32_t leaf, uint32_t* leaf_of_row);
  void (*leaf_sums)(const uint32_t* leaf_of_row, int64_t begin, int64_t end, const float* g,
                    const float* h, double gradient_scale, double hessian_scale, LeafSums* sums);
  void (*add_leaf_values)(const uint32_t* leaf_of_row, int64_t begin, int64_t end,
                          const double* values, double* raw_prediction);

  PredictKernels prediction;
};

// The level in use: the best that this CPU runs, or QGBDT_SIMD (std::invalid_argument if it
// cannot).
const Kernels& choose_kernels();

// Levels compiled in, slowest first, and whether this CPU runs each.
struct SimdLevel {
  const Kernels* kernels;
  bool runs_here;
};
struct SimdLevels {
  SimdLevel levels[3];
  int n;
};
SimdLevels simd_levels();

}  // namespace qgbdt
