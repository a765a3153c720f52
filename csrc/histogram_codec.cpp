#include "histogram_codec.h"

#include <cstring>

namespace qgbdt {

void pack_cells(const HistCell* cells, int64_t n, const CellWidths& widths, uint8_t* bytes) {
  uint64_t waiting = 0;  // less than 32 bits between two numbers
  int n_waiting = 0;
  const auto put = [&](uint32_t number, int bits) {
    waiting |= uint64_t(number) << n_waiting;
    n_waiting += bits;
    if (n_waiting < 32) return;
    const uint32_t word = uint32_t(waiting);
    std::memcpy(bytes, &word, sizeof word);
    bytes += sizeof word;
    waiting >>= 32;
    n_waiting -= 32;
  };
  for (int64_t i = 0; i < n; ++i) {
    put(uint32_t(cell_gradient(cells[i])) - uint32_t(widths.lowest_gradient), widths.gradient_bits);
    put(uint32_t(cell_hessian(cells[i])), widths.hessian_bits);
  }
  if (n_waiting > 0) put(0, 32 - n_waiting);
}

void add_packed_cells(const uint8_t* bytes, int64_t n, const CellWidths& widths, HistCell* cells) {
  uint64_t waiting = 0;
  int n_waiting = 0;
  const auto take = [&](int bits) {
    if (n_waiting < bits) {
      uint32_t word;
      std::memcpy(&word, bytes, sizeof word);
      bytes += sizeof word;
      waiting |= uint64_t(word) << n_waiting;
      n_waiting += 32;
    }
    const uint32_t number = uint32_t(waiting & ((uint64_t(1) << bits) - 1));
    waiting >>= bits;
    n_waiting -= bits;
    return number;
  };
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t gradient = take(widths.gradient_bits) + uint32_t(widths.lowest_gradient);
    const uint32_t hessian = take(widths.hessian_bits);
    cells[i] += make_cell(int32_t(gradient), int32_t(hessian));
  }
}

}  // namespace qgbdt
