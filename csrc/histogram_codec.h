// A feature's part of a histogram on the wire, in as few bits as its sums need: a worker has a part
// of a node's rows, and a bin has a part of those.
//
//   head    bits of a gradient, + 128 if cells of 0 are left out | bits of a hessian    2 bytes
//   places  if so: which are there, a bit each                                 n_places / 8 bytes
//   cells   gradient (two's complement), hessian; gradient, hessian ...      whole bytes at the end
#pragma once

#include <stdint.h>

#include <span>

#include "support/bytes.h"
#include "types.h"

namespace qgbdt {

// n_places is a multiple of 8.
void pack_cells(const HistCell* cells, int32_t n_places, Bytes* bytes);

// What pack_cells wrote, feature after feature. Bytes that it cannot have written throw
// std::invalid_argument.
class CellReader {
 public:
  explicit CellReader(std::span<const uint8_t> bytes) : rest_(bytes) {}
  bool is_done() const { return rest_.empty(); }
  // cells += those of the next feature.
  void add_to(HistCell* cells, int32_t n_places);

 private:
  std::span<const uint8_t> take(int64_t n);

  std::span<const uint8_t> rest_;
};

}  // namespace qgbdt
