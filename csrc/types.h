// The plain data that travels between the algorithm and the machines.
#pragma once

#include <stdint.h>

#include "support/inline.h"

namespace qgbdt {

// One histogram cell: the sums of quantized gradients (upper half, signed) and hessians (lower
// half, never negative) of the rows in one bin, packed so that one 64-bit add or subtract serves
// both. quantize.h proves that neither half can overflow.
using HistCell = int64_t;

QGBDT_FN HistCell make_cell(int32_t gradient, int32_t hessian) {
  return int64_t(uint64_t(int64_t(gradient)) << 32) + hessian;
}
QGBDT_FN int32_t cell_gradient(HistCell cell) { return int32_t(cell >> 32); }
QGBDT_FN int32_t cell_hessian(HistCell cell) { return int32_t(uint32_t(cell)); }

enum class ObjectiveKind {
  regression,
  l1,
  huber,
  fair,
  quantile,
  mape,
  cross_entropy,
  poisson,
  gamma,
  tweedie,
  aft,
  cox,
  binary,
  multiclass,
  multiclassova,
  lambdarank,
  rank_xendcg,
  custom  // the user's own
};

enum class Link { identity, logistic, softmax, exponential };

enum class Noise { normal, logistic, extreme };  // of the logarithms of times

struct ObjectiveArgs {
  double tweedie_variance_power;
  double alpha;      // of huber and quantile
  double fair_c;     // of fair
  Noise aft_noise;   // of aft
  double aft_scale;  // likewise, of its noise
};

// How large the values of one kind are: the largest magnitude, and how many lie in each power of
// two (by the 8 exponent bits of a float32). Both merge exactly over threads and workers.
struct Magnitudes {
  double max = 0;
  int64_t counts[256] = {};
};

struct GradientRange {  // of one output; it sets the scales
  Magnitudes gradient, hessian;
};

// Sums of unquantized gradients of a leaf, in fixed point.
struct LeafSums {
  int64_t gradient = 0, hessian = 0;
};

// The rows of a node on this worker: a slice of the backend's row order.
struct RowRange {
  uint32_t begin = 0, end = 0;
  int64_t size() const { return int64_t(end) - begin; }
};

struct FeatureRange {
  int32_t begin = 0, end = 0;
  int32_t size() const { return end - begin; }
  bool contains(int32_t feature) const { return begin <= feature && feature < end; }
};

// How the categories of a feature are split (docs/categories.md).
struct CategoryParams {
  double smooth, l2;                     // cat_smooth, cat_l2
  int32_t max_threshold, max_to_onehot;  // max_cat_threshold, max_cat_to_onehot
  double min_data_per_group;
};

// Some of a feature's bins.
struct CategorySet {
  uint64_t words[4] = {};

  QGBDT_FN bool contains(int32_t bin) const { return words[bin >> 6] >> (bin & 63) & 1; }
  QGBDT_FN void insert(int32_t bin) { words[bin >> 6] |= uint64_t(1) << (bin & 63); }
  bool operator==(const CategorySet&) const = default;
  QGBDT_FN void erase(int32_t bin) { words[bin >> 6] &= ~(uint64_t(1) << (bin & 63)); }
};

// The best split of a node, or none (feature < 0). Rows in value bins <= bin go left; of a
// categorical feature those in `categories`.
struct SplitCandidate {
  double gain = 0;
  HistCell left = 0;
  int32_t feature = -1;
  int32_t bin = 0;
  bool missing_left = false;
  bool is_allowed = false;  // both children are known to have min_child_samples rows
  CategorySet categories = {};
  bool exists() const { return feature >= 0; }
};

// A node of a finished tree: a split (feature >= 0) or a leaf (feature < 0).
struct Node {
  int32_t feature = -1;
  int32_t left = -1, right = -1;
  bool missing_left = false;
  bool is_categorical = false;
  double threshold = 0;  // x <= threshold goes left; or the number of a set of the tree's
  double value = 0;      // what a leaf adds to the raw prediction
  double gain = 0;
  int64_t count = 0;  // training rows
  double sum_hessian = 0;
};
static_assert(sizeof(Node) == 56);

}  // namespace qgbdt
