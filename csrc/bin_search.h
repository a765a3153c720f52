// The bin of a value: how many thresholds lie below it. A search tree whose nodes are 32 bytes, 8
// float32 or 4 float64: count the thresholds of a node that lie below the value and go to that
// child. A count is a vector compare, so a step is one load and no branch.
//
//   level 0: t0 t1 t2 ...      all thresholds, kFan to a node
//   level 1: t7 t15 t23 ...    the last of each node of level 0 (here kFan is 8)
//   level 2: t63 t127 ...      the last of each node of level 1
//
// Unused places hold infinity: nothing is above it, and NaN is above nothing.
//
// Where thresholds lie evenly enough, most of the search is a table: the line from the first to the
// last threshold is cut into equal cells, none of which holds more than kFan thresholds. Rounding
// keeps the order, so thresholds in cells below that of a value are below it, and one count, from
// the first threshold in its cell, gives its bin exactly.
#pragma once

#include <stdint.h>

#include "bin_order.h"
#include "support/inline.h"

namespace qgbdt {

template <class T>
struct BinTable {
  static constexpr int kFan = 32 / int(sizeof(T));
  static constexpr int kMaxLevels = sizeof(T) == 4 ? 3 : 4;  // kFan^kMaxLevels >= kBinPlaces

  // Where a level begins, after those below it.
  static constexpr int begin(int level) {
    int slots = 0;
    for (int width = kBinPlaces; level > 0; --level, width /= kFan) slots += width;
    return slots;
  }

  static constexpr int kCells = 1024;

  // The cell of x; cells beyond the ends join the outermost ones, and so does NaN.
  QGBDT_FN static int32_t cell(T x, T origin, T cells_per_unit) {
    const T position = (x - origin) * cells_per_unit;
    const T from_0 = position > 0 ? position : 0;
    return int32_t(from_0 < kCells - 1 ? from_0 : kCells - 1);
  }

  bool has_cells;
  T origin, cells_per_unit;
  uint8_t first_in_cell[kCells];  // number of thresholds in the cells below

  int n_levels;  // as many as the thresholds need: they are fewer than kFan^n_levels
  alignas(64) T thresholds[begin(kMaxLevels - 1) + kFan];  // no node straddles a cache line
};

// Bins n values; NaN becomes missing_bin. Returns whether there was any.
template <class T>
using BinColumn = bool (*)(const BinTable<T>&, const T* x, int64_t n, uint8_t missing_bin,
                           uint8_t* bins);

struct BinKernels {  // of a machine
  BinColumn<float> bin_float;
  BinColumn<double> bin_double;
};
QGBDT_FN BinColumn<float> kernel_for(const BinKernels& kernels, const float*) {
  return kernels.bin_float;
}
QGBDT_FN BinColumn<double> kernel_for(const BinKernels& kernels, const double*) {
  return kernels.bin_double;
}

}  // namespace qgbdt
