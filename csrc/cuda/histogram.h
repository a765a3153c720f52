// ---- histogram: THE hot loop ----
//
// A block adds a chunk of a node's rows to the sums of one tile, in shared memory, and these to the
// node's cells.
//
//   rows    [r0 r1 r2 ...]        4 bytes a row, read in order
//   pairs   [..g h..g h..]        2 or 4 bytes a row, gathered
//   tile    row r: [b0 .. b31]    one 32-byte sector, gathered: 8 threads take 4 bytes each
//   sums    place p: [s0 .. s31]  32 columns of 4 bytes, one a bank
//
// Of its four bytes each thread adds first the one that no other row of its warp does: then the 32
// additions of a step go to 32 columns, which is 32 banks. Tiles of fewer than 32 features have
// several copies of their sums beside each other.
//
// Lanes: gradient and hessian in one 16 + 16 bit word, one addition an update; a block adds no more
// rows than these hold (histogram_chunk_rows). Halves: a word for each, two additions an update,
// for any number of rows (quantize.h).
#pragma once

#include "../bin_order.h"
#include "../bundle.h"
#include "../quantize.h"
#include "atomics.h"
#include "geometry.h"
#include "launch.h"

namespace qgbdt {

// A feature and a tile of the binned matrix, on the device.
struct DeviceFeature {
  const uint8_t* column;
  int64_t cell_offset;
  int32_t missing_bin;  // the number of positions less one
  BinOrder order;
  uint8_t default_place;
  int32_t sign;  // +1 if values may not fall with the feature, -1 if they may not rise
};
struct DenseTile {
  const uint32_t* words;  // [n_samples][n_words], four bytes each
  const Bundle* bundles;  // of each byte in use
  int32_t n_bundles, n_words;
};
struct SparseTile {
  const uint32_t* row_begin;
  const uint16_t* entries;
  int32_t first_feature;
};

constexpr int kBanks = 32;

struct LaneSums {
  uint32_t lanes[kBinPlaces][kBanks];
  QGBDT_FN void add(int32_t place, int32_t column, Pair8 pair) {
    atomic_add(&lanes[place][column], pair_lane(pair));
  }
  QGBDT_FN void clear(int32_t place, int32_t column) { lanes[place][column] = 0; }
  QGBDT_FN HistCell cell(int32_t place, int32_t column) const {
    return lane_cell(lanes[place][column]);
  }
};

struct HalfSums {
  uint32_t gradients[kBinPlaces][kBanks], hessians[kBinPlaces][kBanks];
  template <class Pair>
  QGBDT_FN void add(int32_t place, int32_t column, Pair pair) {
    const HistCell cell = lane_cell(pair_lane(pair));
    atomic_add(&gradients[place][column], uint32_t(cell_gradient(cell)));
    atomic_add(&hessians[place][column], uint32_t(cell_hessian(cell)));
  }
  QGBDT_FN void clear(int32_t place, int32_t column) {
    gradients[place][column] = hessians[place][column] = 0;
  }
  QGBDT_FN HistCell cell(int32_t place, int32_t column) const {
    return make_cell(int32_t(gradients[place][column]), int32_t(hessians[place][column]));
  }
};

template <class Pair, class Sums>
struct AddRows {
  static constexpr int kThreads = 256;
  using Shared = Sums;

  RowChunks chunks;
  const uint32_t* row_order;
  const Pair* pairs;
  const DenseTile* tiles;
  int32_t n_tiles;
  const DeviceFeature* features;
  HistCell* const* cells;  // of each range, all features

  QGBDT_FN void clear(const At& at, Shared& sums) const {
    for (int32_t i = at.thread; i < kBinPlaces * kBanks; i += kThreads)
      sums.clear(i / kBanks, i % kBanks);
  }

  QGBDT_FN void add(const At& at, Shared& sums) const {
    const DenseTile tile = tiles[at.block % n_tiles];
    const RowRange rows = chunks.at(at.block / n_tiles).rows;
    const int32_t word = at.thread % tile.n_words, row_of_step = at.thread / tile.n_words;
    const int32_t n_copies = kBanks / (4 * tile.n_words);
    const int32_t first_column = row_of_step % n_copies * 4 * tile.n_words + 4 * word;
    const int32_t turn = row_of_step / n_copies;
    const uint32_t step = uint32_t(kThreads / tile.n_words);
    for (uint32_t i = rows.begin + uint32_t(row_of_step); i < rows.end; i += step) {
      const uint32_t row = row_order[i];
      const Pair pair = pairs[row];
      const uint32_t four = tile.words[int64_t(row) * tile.n_words + word];
      for (int32_t s = 0; s < 4; ++s) {
        const int32_t k = (s + turn) % 4;
        sums.add(int32_t(four >> (8 * k) & 0xff), first_column + k, pair);
      }
    }
  }

  QGBDT_FN void add_to_features(const Bundle& bundle, int32_t code, HistCell sum,
                                HistCell* to) const {
    const DeviceFeature* feature = features + bundle.first_feature;
    if (!bundle.is_shared()) return atomic_add(to + feature->cell_offset + code, sum);
    for (int32_t i = 0; i < bundle.n_features; ++i, ++feature) {
      const int32_t n_positions = feature->missing_bin + 1;
      atomic_add(to + feature->cell_offset + feature->order.place(code % n_positions), sum);
      code /= n_positions;
    }
  }

  // Four threads in a row take four cells in a row: 32 bytes.
  QGBDT_FN void flush(const At& at, Shared& sums) const {
    const DenseTile tile = tiles[at.block % n_tiles];
    HistCell* const to = cells[chunks.at(at.block / n_tiles).range];
    for (int32_t i = at.thread; i < kBinPlaces * kBanks; i += kThreads) {
      const int32_t column = i / 4 % kBanks, place = i / (4 * kBanks) * 4 + i % 4;
      const int32_t byte = column % (4 * tile.n_words);
      const HistCell sum = sums.cell(place, column);
      if (byte < tile.n_bundles && sum != 0) add_to_features(tile.bundles[byte], place, sum, to);
    }
  }

  using Steps = StepList<&AddRows::clear, &AddRows::add, &AddRows::flush>;
};

// The entries of a sparse tile go to the cells at once: they are few.
template <class Pair>
struct AddSparseRows {
  static constexpr int kThreads = 256;
  using Shared = NothingShared;

  RowChunks chunks;
  const uint32_t* row_order;
  const Pair* pairs;
  const SparseTile* tiles;
  int32_t n_tiles;
  const DeviceFeature* features;
  HistCell* const* cells;

  QGBDT_FN void add(const At& at, Shared&) const {
    const SparseTile tile = tiles[at.block % n_tiles];
    const Chunk chunk = chunks.at(at.block / n_tiles);
    HistCell* const to = cells[chunk.range] + features[tile.first_feature].cell_offset;
    for (uint32_t i = chunk.rows.begin + uint32_t(at.thread); i < chunk.rows.end; i += kThreads) {
      const uint32_t row = row_order[i];
      const HistCell cell = lane_cell(pair_lane(pairs[row]));
      for (uint32_t e = tile.row_begin[row]; e < tile.row_begin[row + 1]; ++e)
        atomic_add(to + tile.entries[e], cell);
    }
  }

  using Steps = StepList<&AddSparseRows::add>;
};

template <class T, int kThreads>
struct Partials {
  T of_thread[kThreads];
  QGBDT_FN T sum() const {
    T total = of_thread[0];
    for (int i = 1; i < kThreads; ++i) total += of_thread[i];
    return total;
  }
  // of_thread[i] becomes what the threads before i have; returns the sum of all.
  QGBDT_FN T sums_before(T sum = T{}) {
    for (T& x : of_thread) {
      const T own = x;
      x = sum;
      sum += own;
    }
    return sum;
  }
};

// totals[range] += its rows.
template <class Pair>
struct SumRows {
  static constexpr int kThreads = 256;
  using Shared = Partials<HistCell, kThreads>;

  RowChunks chunks;
  const uint32_t* row_order;
  const Pair* pairs;
  HistCell* totals;

  QGBDT_FN void add(const At& at, Shared& partials) const {
    const RowRange rows = chunks.at(at.block).rows;
    HistCell sum = 0;
    for (uint32_t i = rows.begin + uint32_t(at.thread); i < rows.end; i += kThreads)
      sum += lane_cell(pair_lane(pairs[row_order[i]]));
    partials.of_thread[at.thread] = sum;
  }
  QGBDT_FN void finish(const At& at, Shared& partials) const {
    if (at.thread == 0) atomic_add(totals + chunks.at(at.block).range, partials.sum());
  }

  using Steps = StepList<&SumRows::add, &SumRows::finish>;
};

// What sparse tiles left out: the default place of each feature has the rest of the rows' total.
struct FillDefaultPlaces {
  static constexpr int kThreads = 32;
  using Shared = Partials<HistCell, kThreads>;

  const int32_t* sparse_features;
  int32_t n_sparse_features;
  const DeviceFeature* features;
  const HistCell* totals;
  HistCell* const* cells;

  QGBDT_FN HistCell* cells_of(const At& at) const {
    return cells[at.block / n_sparse_features] + feature(at).cell_offset;
  }
  QGBDT_FN const DeviceFeature& feature(const At& at) const {
    return features[sparse_features[at.block % n_sparse_features]];
  }
  QGBDT_FN void add(const At& at, Shared& partials) const {
    const HistCell* const of_feature = cells_of(at);
    HistCell sum = 0;
    for (int32_t p = at.thread; p < feature(at).order.n_places(); p += kThreads)
      sum += of_feature[p];
    partials.of_thread[at.thread] = sum;
  }
  QGBDT_FN void finish(const At& at, Shared& partials) const {
    if (at.thread == 0)
      cells_of(at)[feature(at).default_place] =
          totals[at.block / n_sparse_features] - partials.sum();
  }

  using Steps = StepList<&FillDefaultPlaces::add, &FillDefaultPlaces::finish>;
};

// Zeroes the cells of several nodes.
struct ClearCells {
  static constexpr int kThreads = 256, kCellsPerBlock = 4096;
  using Shared = NothingShared;

  HistCell* const* cells;
  int64_t n_cells, blocks_per_node;

  QGBDT_FN void clear(const At& at, Shared&) const {
    HistCell* const of_node = cells[at.block / blocks_per_node];
    const int64_t begin = at.block % blocks_per_node * kCellsPerBlock;
    const int64_t end = begin + kCellsPerBlock < n_cells ? begin + kCellsPerBlock : n_cells;
    for (int64_t i = begin + at.thread; i < end; i += kThreads) of_node[i] = 0;
  }

  using Steps = StepList<&ClearCells::clear>;
};

// Of rows of several nodes, how many lie in each place of a feature.
struct CountRows {
  static constexpr int kThreads = 256;
  struct Shared {
    uint32_t counts[kBinPlaces];
  };

  RowChunks chunks;
  const uint32_t* row_order;
  const int32_t* feature_of_range;
  const DeviceFeature* features;
  HistCell* counts;  // [n_ranges][kBinPlaces]

  QGBDT_FN void clear(const At& at, Shared& shared) const {
    for (int32_t p = at.thread; p < kBinPlaces; p += kThreads) shared.counts[p] = 0;
  }
  QGBDT_FN void add(const At& at, Shared& shared) const {
    const Chunk chunk = chunks.at(at.block);
    const DeviceFeature feature = features[feature_of_range[chunk.range]];
    for (uint32_t i = chunk.rows.begin + uint32_t(at.thread); i < chunk.rows.end; i += kThreads) {
      const uint8_t bin = feature.column[row_order[i]];
      const int32_t position = position_of_bin(bin, feature.missing_bin);
      atomic_add(&shared.counts[feature.order.place(position)], 1);
    }
  }
  QGBDT_FN void flush(const At& at, Shared& shared) const {
    HistCell* const to = counts + int64_t(chunks.at(at.block).range) * kBinPlaces;
    for (int32_t p = at.thread; p < kBinPlaces; p += kThreads)
      if (shared.counts[p] != 0) atomic_add(to + p, make_cell(0, int32_t(shared.counts[p])));
  }

  using Steps = StepList<&CountRows::clear, &CountRows::add, &CountRows::flush>;
};

}  // namespace qgbdt
