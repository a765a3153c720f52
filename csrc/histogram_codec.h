// A part of a node's histogram on the wire: the sums of each cell in as few bits as the node's rows
// can need, one cell after the other. The width follows from what all workers know, so that it is
// not sent, and no sum is too large for it.
//
//   hessian    0 .. the hessian of the node over all workers
//   gradient   - .. + (rows of the node over all workers) x (levels of a gradient), sent as what it
//              is above the lowest
#pragma once

#include <stdint.h>

#include <bit>

#include "quantize.h"
#include "support/bytes.h"
#include "types.h"

namespace qgbdt {

struct CellWidths {
  int32_t lowest_gradient;
  int gradient_bits, hessian_bits;  // at most 32 and 31

  // Bytes of n cells: whole 32-bit words.
  int64_t n_bytes(int64_t n_cells) const {
    return (n_cells * (gradient_bits + hessian_bits) + 31) / 32 * 4;
  }
};

// `count` and `total` are over all workers.
inline CellWidths cell_widths(int64_t count, HistCell total, const Quantization& q) {
  const int64_t most = count * q.gradient.levels;  // below 2^31: max_levels sees to it
  return {int32_t(-most), int(std::bit_width(uint64_t(2 * most))),
          int(std::bit_width(uint64_t(cell_hessian(total))))};
}

// Writes n cells to `bytes`, which have room for n_bytes of them.
void pack_cells(const HistCell* cells, int64_t n, const CellWidths& widths, uint8_t* bytes);
// cells += what pack_cells wrote.
void add_packed_cells(const uint8_t* bytes, int64_t n, const CellWidths& widths, HistCell* cells);

}  // namespace qgbdt
