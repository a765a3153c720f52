// Which rows a tree is grown on, and for how many others each of them stands. Drawn by hash of the
// row's number among those of all workers.
#pragma once

#include <stdint.h>

#include "support/rng.h"

namespace qgbdt {

// The numbers of streams of samples, where streams of rounding have an output's.
constexpr uint64_t kRowSampleStream = uint64_t(1) << 32;

// Rows of a large gradient are in use; of the others a share is drawn.
struct RowSample {
  uint64_t key;          // of the random stream
  uint64_t limit;        // the share, times 2^32
  bool by_query;         // whole queries are drawn, by the numbers of their first rows
  bool by_gradient;      // else no row is large
  uint32_t least_large;  // magnitude_bits of a row that is large
  double amplification;  // of the gradients of drawn rows
};

QGBDT_FN uint64_t limit_of_share(double share) { return uint64_t(share * 4294967296.0); }

QGBDT_FN bool is_drawn(const RowSample& sample, int64_t number) {
  return row_hash(sample.key, uint64_t(number)) < sample.limit;
}

// Of the sum of a row's |g h| over the outputs; ordered as the sums are.
QGBDT_FN uint32_t magnitude_bits(double sum) {
  return __builtin_bit_cast(uint32_t, float(__builtin_sqrt(sum)));
}

}  // namespace qgbdt
