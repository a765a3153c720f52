// From raw columns to bin thresholds. A sample of at most about 200,000 rows, chosen by a hash of
// the row number, decides; a column with few distinct values gets one bin per value, any other gets
// bins of equal frequency in which a very frequent value stands alone. NaN is missing and decides
// nothing. Of several workers, each decides for some features; the others send it their samples.
//
// The sample is sorted as integers, and the ends of the bins are found by looking ahead by a bin's
// fair share: of a sorted column only the values around 254 ends are looked at.
#pragma once

#include <stdint.h>

#include <vector>

#include "bin_search.h"
#include "comm.h"
#include "global_rows.h"
#include "support/parallel.h"

namespace qgbdt {

constexpr int64_t kBinningSample = 200000;
constexpr int kMaxValueBins = 255;  // and one bin for missing values: 256 fit a byte

constexpr int64_t kValuesPerThread = 1 << 14;  // values to bin that outweigh waking a thread

// A borrowed 2-D array of float32 or float64 with any strides.
struct MatrixView {
  const void* data;
  bool is_float32;
  int64_t n_samples, n_features;
  int64_t row_stride, column_stride;  // in elements
};

// A borrowed matrix that lists, column by column, some of its values; the others are 0, or all NaN.
struct SparseView {
  const void* data;
  bool is_float32;
  const int32_t* rows;          // of the values, ascending in a column
  const int64_t* column_begin;  // [n_features + 1]
  int64_t n_samples, n_features;
  bool others_are_missing = false;
};

// Calls f(const T* data) with the element type of X.
template <class View, class F>
auto visit_elements(const View& X, F&& f) {
  if (X.is_float32) return f(static_cast<const float*>(X.data));
  return f(static_cast<const double*>(X.data));
}

// This worker's rows that decide the thresholds: all, or those whose number has a small hash.
std::vector<uint32_t> binning_sample(const GlobalRows& rows);

// Thresholds of every feature, ascending: bin(x) = number of thresholds below x.
template <class View>
std::vector<std::vector<double>> find_bin_thresholds(const View& X, const GlobalRows& rows,
                                                     int max_bin, Comm& comm, Team& team);

// The table in which values of type T find their bins among at most 255 ascending thresholds.
template <class T>
BinTable<T> bin_table(const std::vector<double>& thresholds);

// A bin for each of the codes 0, 1, ...
std::vector<double> code_thresholds(int32_t n_codes);

// Where to cut between neighbouring distinct values a < b: a <= threshold < b.
double threshold_between(double a, double b);

}  // namespace qgbdt
