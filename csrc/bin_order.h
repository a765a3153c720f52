// Where the bins of a feature lie in its histogram: in eight runs side by side, so that running
// sums go down all eight at once, one vector addition for eight bins.
//
//   position   0 missing, 1 the first value bin, 2 the second ...
//   place      0 1 2 3 4 5 .. 7 | 8 9 .. 15 | 16 .. 23 | 24 .. 31
//   holds      0 4 8 ..      28 | 1 5 .. 29 | 2  .. 30 | 3  .. 31   (position; runs of length 4)
//
// Runs have a power of two as length; places past the last bin stay empty.
#pragma once

#include <stdint.h>

#include "support/inline.h"

namespace qgbdt {

constexpr int kBinPlaces = 256;  // of a feature at most: a byte's worth
constexpr int kRuns = 8;

struct BinOrder {
  uint8_t log_length;  // of a run

  QGBDT_FN int32_t n_places() const { return kRuns << log_length; }
  QGBDT_FN int32_t place(int32_t position) const {
    return (position & ((1 << log_length) - 1)) * kRuns + (position >> log_length);
  }
  QGBDT_FN int32_t position(int32_t place) const {
    return (place % kRuns << log_length) + place / kRuns;
  }
};

constexpr int32_t kMissingPosition = 0;
QGBDT_FN int32_t position_of_bin(int32_t bin, int32_t missing_bin) {
  return bin == missing_bin ? kMissingPosition : bin + 1;
}
QGBDT_FN int32_t bin_of_position(int32_t position) { return position - 1; }

QGBDT_FN BinOrder order_of_bins(int32_t n_value_bins) {
  uint8_t log_length = 0;
  while (kRuns << log_length < n_value_bins + 1) ++log_length;
  return {log_length};
}

}  // namespace qgbdt
