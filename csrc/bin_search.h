// The bin of a value: how many thresholds lie below it, without a branch. Count among the last
// thresholds of 16 blocks of 16, then within the block that this names. Both counts are a few
// vector compares. Unused places hold infinity: nothing is above it, and NaN is above nothing.
#pragma once

#include <stdint.h>

#include "support/inline.h"

namespace qgbdt {

constexpr int kBinSlots = 256;  // bins per feature in a tile histogram, a byte's worth
constexpr int kBinBlocks = 16;
static_assert(kBinBlocks * kBinBlocks == kBinSlots);

template <class T>
struct BinTable {
  T last[kBinBlocks];
  T thresholds[kBinSlots];  // ascending
};

// Bins n values, `stride` elements apart; NaN becomes missing_bin. Returns whether there was any.
template <class T>
using BinColumn = bool (*)(const BinTable<T>&, const T* x, int64_t stride, int64_t n,
                           uint8_t missing_bin, uint8_t* bins);

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
