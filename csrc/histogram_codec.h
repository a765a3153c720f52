// A node's histograms on the wire: what a worker's rows add to them, feature after feature.
//
// As cells, in as few bits as their sums need: a worker has a part of a node's rows, and a bin has
// a part of those. Of each feature:
//
//   head    bits of a gradient, + 128 if cells of 0 are left out | bits of a hessian    2 bytes
//   places  if so: which are there, a bit each                                 n_places / 8 bytes
//   cells   gradient (two's complement), hessian; gradient, hessian ...      whole bytes at the end
//
// Or as the rows themselves:
//
//   n       int64
//   pairs   quantized gradients, Pair8 or Pair16 each
//   places  of each feature, the n rows' places in its histogram, a byte each
//
// Bytes that cannot have been written so throw std::invalid_argument.
#pragma once

#include <stdint.h>

#include <span>

#include "quantize.h"
#include "support/bytes.h"
#include "types.h"

namespace qgbdt {

// n_places is a multiple of 8.
void pack_cells(const HistCell* cells, int32_t n_places, Bytes* bytes);

class CellReader {
 public:
  explicit CellReader(std::span<const uint8_t> bytes) : rest_(bytes) {}
  bool is_done() const { return rest_.is_done(); }
  // cells += those of the next feature.
  void add_to(HistCell* cells, int32_t n_places);

 private:
  ByteReader rest_;
};

// Places are to follow.
void pack_pairs(std::span<const Pair8> pairs, Bytes* bytes);
void pack_pairs(std::span<const Pair16> pairs, Bytes* bytes);

class RowReader {
 public:
  // wide: of Pair16.
  RowReader(std::span<const uint8_t> bytes, bool wide);
  bool is_done() const { return rest_.is_done(); }
  // cells += the rows at their places of the next feature.
  void add_to(HistCell* cells, int32_t n_places);

 private:
  ByteReader rest_;
  std::vector<HistCell> pairs_;
};

}  // namespace qgbdt
