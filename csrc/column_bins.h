// The data as bin numbers, one byte a value, column by column: what raw values become, what a data
// set keeps, and what binned_matrix.h lays out for kernels.
#pragma once

#include <stdint.h>

#include <span>
#include <vector>

#include "bin_search.h"
#include "binning.h"
#include "comm.h"
#include "global_rows.h"
#include "support/buffer.h"
#include "support/parallel.h"

namespace qgbdt {

constexpr int32_t kNotCategorical = -1;

// How values become bins: numbers by thresholds, and of a categorical feature each code is one.
struct Binning {
  std::vector<std::vector<double>> thresholds;  // of each feature, ascending
  std::vector<uint8_t> is_categorical;          // of each feature
  bool zero_is_missing = false;                 // of those that are not

  int32_t n_features() const { return int32_t(thresholds.size()); }
  int32_t n_value_bins(int32_t feature) const { return int32_t(thresholds[feature].size()) + 1; }
  uint8_t missing_bin(int32_t feature) const { return uint8_t(n_value_bins(feature)); }
};

// Throws unless every value of every feature has a byte.
void check_binning(const Binning& binning);

// n_categories: of each feature, kNotCategorical or how many codes 0, 1, ... it has; or empty.
// Codes are dense.
template <class View>
Binning find_binning(const View& X, const GlobalRows& rows, int max_bin,
                     const std::vector<int32_t>& n_categories, Comm& comm, Team& team);

struct DenseBins {
  int64_t n_samples;
  std::vector<uint8_t> has_missing;  // [n_features]
  const uint8_t* bins;               // [n_features][n_samples]
  Buffer<uint8_t> memory = {};       // theirs, or none: they are borrowed
};

// Of a sparse matrix: those of the values that it lists, as SparseView does; others are those of 0,
// or of missing values.
struct SparseBins {
  int64_t n_samples;
  std::vector<uint8_t> has_missing;
  const uint8_t* bins;
  const int32_t* rows;
  const int64_t* column_begin;
  bool others_are_missing = false;
  Buffer<uint8_t> memory = {};
};

DenseBins bin_columns(const MatrixView& X, const Binning& binning, const BinKernels& kernels,
                      Team& team);
SparseBins bin_columns(const SparseView& X, const Binning& binning, const BinKernels& kernels,
                       Team& team);

// Of columns that were kept, [n_features][n_samples]: all rows, borrowed; or some, in any order.
// Throws where a byte is no bin.
DenseBins kept_columns(const uint8_t* bins, int64_t n_samples, const Binning& binning, Team& team);
DenseBins kept_columns(const uint8_t* bins, int64_t n_samples, std::span<const int64_t> rows,
                       const Binning& binning, Team& team);
SparseBins kept_columns(SparseBins columns, const Binning& binning);

}  // namespace qgbdt
