// Which block of a kernel works on what. Nothing here can change a result: only how rows are cut.
#pragma once

#include <stdint.h>

#include <algorithm>
#include <span>
#include <vector>

#include "../quantize.h"
#include "../support/inline.h"
#include "../types.h"

namespace qgbdt {

// Ranges of rows cut into chunks, a block each.
struct Chunk {
  int32_t range;
  RowRange rows;
};
struct RowChunks {
  const RowRange* ranges;      // [n_ranges]
  const int64_t* first_chunk;  // [n_ranges + 1]: how many chunks the ranges before have
  int32_t n_ranges;
  uint32_t chunk_rows;

  QGBDT_FN Chunk at(int64_t chunk) const {
    int32_t low = 0, high = n_ranges;  // first_chunk[low] <= chunk < first_chunk[high]
    while (high - low > 1) {
      const int32_t middle = low + (high - low) / 2;
      if (first_chunk[middle] <= chunk) low = middle;
      else high = middle;
    }
    const RowRange range = ranges[low];
    const uint32_t begin = range.begin + uint32_t(chunk - first_chunk[low]) * chunk_rows;
    return {low, {begin, range.end - begin > chunk_rows ? begin + chunk_rows : range.end}};
  }
};

inline std::vector<int64_t> first_chunks(std::span<const RowRange> ranges, uint32_t chunk_rows) {
  std::vector<int64_t> first{0};
  for (const RowRange& range : ranges)
    first.push_back(first.back() + (range.size() + chunk_rows - 1) / chunk_rows);
  return first;
}

inline int64_t blocks_of(int64_t n, int64_t each) { return (n + each - 1) / each; }

// ---- histograms (histogram.h)

// A block's sums of gradients and hessians fit one 16 + 16 bit lane each if it adds no more rows
// than this; with few, adding lanes to cells would cost as much as the rows.
constexpr int64_t kLeastLaneRows = 1024;
inline bool fits_lanes(const Quantization& q) { return rows_per_flush(q) >= kLeastLaneRows; }

// Rows of a block. Enough blocks for a large GPU, if rows suffice; not so few rows that zeroing and
// adding up a block's sums outweighs them; in lanes, no more than these hold.
constexpr int64_t kWantedBlocks = 1024, kLeastBlockRows = 512, kMostBlockRows = 8192;
inline uint32_t histogram_chunk_rows(int64_t n_rows, int64_t n_tiles, bool lanes,
                                     const Quantization& q) {
  const int64_t even = n_rows * n_tiles / kWantedBlocks;
  const int64_t rows = std::clamp(even, kLeastBlockRows, kMostBlockRows);
  return uint32_t(lanes ? std::min(rows, rows_per_flush(q)) : rows);
}

}  // namespace qgbdt
