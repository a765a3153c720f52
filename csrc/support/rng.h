// Counter-based randomness: a draw is a hash of (seed, tree, output, global row), so it depends on
// no thread, worker, machine or order. Finalizers: splitmix64 (Steele, Lea, Flood 2014) and
// lowbias32 (Wellons 2018, hash-prospector); only 32-bit multiplies run once per row, which every
// SIMD level has.
#pragma once

#include <stdint.h>

#include "inline.h"

namespace qgbdt {

QGBDT_FN uint64_t mix64(uint64_t z) {
  z += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

QGBDT_FN uint64_t stream_key(uint64_t seed, uint64_t tree, uint64_t output) {
  return mix64(mix64(mix64(seed) ^ tree) ^ output);
}

QGBDT_FN uint32_t lowbias32(uint32_t x) {
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  x *= 0x846ca68bu;
  return x ^ (x >> 16);
}

// The key of 2^32 consecutive rows; constant within a block of rows.
QGBDT_FN uint64_t row_key(uint64_t key, uint64_t row) { return mix64(key ^ (row >> 32)); }

QGBDT_FN uint32_t keyed_row_hash(uint64_t row_key, uint32_t row) {
  return lowbias32(lowbias32(row ^ uint32_t(row_key)) + uint32_t(row_key >> 32));
}

QGBDT_FN uint32_t row_hash(uint64_t key, uint64_t row) {
  return keyed_row_hash(row_key(key, row), uint32_t(row));
}

}  // namespace qgbdt
