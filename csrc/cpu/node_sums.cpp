// Histograms: the sums of nodes' rows, tile by tile.

#include <algorithm>
#include <atomic>
#include <cstring>
#include <numeric>

#include "tile_sums.h"

namespace qgbdt {
namespace {

constexpr int64_t kUpdatesPerThread = 16384;  // as kRowsPerThread, of adds
constexpr int64_t kCutRowsPerThread = 8192;   // with fewer, tiles are cut instead of rows
constexpr double kMaxDirectUpdates = 1024;    // a feature, of a node without cells

}  // namespace

void CpuBackend::make_slot(int32_t slot) {
  if (slot >= int32_t(slots_.size())) slots_.resize(slot + 1);
  if (!slots_[slot].size()) slots_[slot] = Buffer<HistCell>(n_cells(all_own_tiles_));
}

HistCell* CpuBackend::cells_of(int32_t slot, int32_t feature) {
  return slots_[slot].data() + bins_.cell_offset(feature) -
         bins_.cell_offset(all_own_tiles_.front().first_feature);
}

// The sums of features that share a byte, from those of its codes.
template <class Lane>
void CpuBackend::part_bundles(const FeatureTile& tile, Lanes<Lane> lanes) {
  for (int32_t b = 0; b < tile.n_bundles; ++b) {
    const Bundle& bundle = bins_.bundles()[tile.first_bundle + b];
    if (!bundle.is_shared()) continue;
    int32_t n_positions[kTileBytes];
    BinOrder orders[kTileBytes];
    for (int32_t i = 0; i < bundle.n_features; ++i) {
      n_positions[i] = bins_.n_positions(bundle.first_feature + i);
      orders[i] = bins_.bin_order(bundle.first_feature + i);
    }
    const BundleView view{n_positions, orders, bundle.n_features};
    Lane* const codes = lanes.of_bytes + b * kBinPlaces;
    Lane* const places = lanes.side_by_side + first_cell(tile, bundle.first_feature);
    if constexpr (sizeof(Lane) == sizeof(HistCell)) kernels_.part_bundle16(view, codes, places);
    else kernels_.part_bundle8(view, codes, places);
  }
}

// Sums rows of a dense tile in lanes.
template <class Lane>
void CpuBackend::fill_lanes(const FeatureTile& tile, const uint32_t* rows, int64_t n,
                            Lanes<Lane> lanes) {
  std::memset(lanes.of_bytes, 0, sizeof(Lane) * kBinPlaces * ((tile.n_bundles + 3) / 4 * 4));
  const TileView view{tile.bins, tile.stride, tile.n_bundles};
  if constexpr (sizeof(Lane) == sizeof(HistCell))
    kernels_.add_rows16(view, rows, n, pairs16_.data(), lanes.of_bytes);
  else kernels_.add_rows8(view, rows, n, pairs8_.data(), lanes.of_bytes);
  part_bundles(tile, lanes);
}

// Adds rows to the cells of a dense tile, through packed lanes that stay in L1 and are flushed
// before they can overflow.
template <class Lane>
void CpuBackend::add_dense_rows(RowRange range, const FeatureTile& tile, Lanes<Lane> lanes,
                                HistCell* cells) {
  const int32_t first = tile.first_feature, last = first + tile.n_features;
  const int64_t safe = sizeof(Lane) == sizeof(HistCell) ? range.size() : rows_per_flush_;
  for (int64_t i = range.begin; i < range.end; i += safe) {
    fill_lanes(tile, row_order_.data() + i, std::min(safe, range.end - i), lanes);
    for (int32_t f = first; f < last; ++f) {
      const Lane* from = lanes_of(lanes, tile, f);
      HistCell* to = cells + first_cell(tile, f);
      const int32_t n_places = bins_.bin_order(f).n_places();
      if constexpr (sizeof(Lane) == sizeof(HistCell)) kernels_.flush16(from, n_places, to);
      else kernels_.flush8(from, n_places, to);
    }
  }
}

// The cells of a sparse tile take few updates: no lanes, which would have to be flushed.
void CpuBackend::add_rows(RowRange range, const FeatureTile& tile, ThreadScratch& scratch,
                          HistCell* cells) {
  const SparseTileView sparse{tile.row_begin, tile.entries};
  const uint32_t* rows = row_order_.data() + range.begin;
  if (!tile.is_sparse() && wide_) add_dense_rows(range, tile, scratch.lanes<HistCell>(), cells);
  else if (!tile.is_sparse()) add_dense_rows(range, tile, scratch.lanes<uint32_t>(), cells);
  else if (wide_) kernels_.add_sparse_cells16(sparse, rows, range.size(), pairs16_.data(), cells);
  else kernels_.add_sparse_cells8(sparse, rows, range.size(), pairs8_.data(), cells);
}

HistCell CpuBackend::sum_rows(RowRange range) const {
  HistCell sum = 0;
  for (uint32_t i = range.begin; i < range.end; ++i) sum += quantized(row_order_.data()[i]);
  return sum;
}

template <class Sum>
void CpuBackend::clear(const FeatureTile& tile, const uint8_t* live, Sum* sums) const {
  for_live(tile, live, [&](int32_t f) {
    std::memset(sums + first_cell(tile, f), 0, bins_.bin_order(f).n_places() * sizeof(Sum));
  });
}

void CpuBackend::add_cells(const FeatureTile& tile, const uint8_t* live, const HistCell* from,
                           HistCell* to) const {
  for_live(tile, live, [&](int32_t f) {
    const int64_t first = first_cell(tile, f);
    kernels_.flush16(from + first, bins_.bin_order(f).n_places(), to + first);
  });
}

// What a sparse tile left out: the default place of each feature has the rest of the rows' total.
template <class Sum>
void CpuBackend::fill_default_places(const FeatureTile& tile, const uint8_t* live, Sum total,
                                     Sum* sums) const {
  for_live(tile, live, [&](int32_t f) {
    Sum* const of_feature = sums + first_cell(tile, f);
    const int32_t n_places = bins_.bin_order(f).n_places();
    Sum& of_default = of_feature[bins_.default_place(f)];
    if constexpr (sizeof(Sum) == sizeof(HistCell))
      of_default = total - kernels_.total16(of_feature, n_places);
    else of_default = total - kernels_.total8(of_feature, n_places);
  });
}

// A part of a tile costs its rows' overhead once more: rather cut the rows where there are many.
bool CpuBackend::cuts_tiles(int threads, int64_t n_nodes, bool few_rows) const {
  const bool too_few = n_nodes * int64_t(bins_.tiles().size()) < 4 * threads;
  return threads > 1 && few_rows && too_few;
}

int64_t CpuBackend::n_cells(const std::vector<FeatureTile>& tiles) const {
  return std::accumulate(tiles.begin(), tiles.end(), int64_t(0),
                         [&](int64_t sum, const FeatureTile& tile) { return sum + n_cells(tile); });
}

int64_t CpuBackend::n_cells(const FeatureTile& tile) const {
  return bins_.cell_offset(tile.first_feature + tile.n_features) -
         bins_.cell_offset(tile.first_feature);
}

void CpuBackend::build_histograms(std::span<const HistogramTask> tasks, std::span<int64_t> counts,
                                  Comm& comm) {
  std::vector<RowSums> nodes, own, whole;
  for (const HistogramTask& task : tasks) {
    make_slot(task.slot);
    const bool own_only = comm.world_size() == 1 || sends_rows(task.rows);
    if (!own_only && whole.size() == whole_.size()) whole_.emplace_back(bins_.n_cells());
    HistCell* cells = own_only ? slots_[task.slot].data() : whole_[whole.size()].data();
    nodes.push_back({task.rows, cells, comm.world_size() == 1 ? task.live : nullptr});
    (own_only ? own : whole).push_back(nodes.back());
  }
  if (!own_tiles_.empty())
    sum_rows(own, own_tiles_, own_parts_, bins_.cell_offset(all_own_tiles_.front().first_feature));
  sum_rows(whole, bins_.tiles(), tile_parts_, 0);
  if (comm.world_size() > 1) reduce(tasks, nodes, counts, comm);
}

// One unit is one tile of one node. Its rows are cut into chunks, so that it can feed all threads.
// The first thread to come adds to the node's own cells, any other to cells of its own, which are
// added up in the end.
void CpuBackend::sum_rows(std::span<const RowSums> nodes,
                          const std::vector<FeatureTile>& whole_tiles,
                          const std::vector<FeatureTile>& tile_parts, int64_t first_cell) {
  if (nodes.empty()) return;
  std::vector<RowRange> ranges;
  int64_t total_rows = 0;
  for (const RowSums& node : nodes) {
    ranges.push_back(node.rows);
    total_rows += node.rows.size();
  }
  const int threads = team_.threads_for(total_rows * bins_.n_features(), kUpdatesPerThread);
  const bool few_rows = total_rows < kCutRowsPerThread * threads;
  const auto& tiles =
      cuts_tiles(threads, int64_t(nodes.size()), few_rows) ? tile_parts : whole_tiles;
  const int64_t n_tiles = int64_t(tiles.size()), n_units = int64_t(nodes.size()) * n_tiles;
  const bool cut_nodes = threads > 1 && n_units < 8 * threads && !few_rows;
  const int64_t chunk_rows =
      cut_nodes ? rows_per_chunk(total_rows, threads) : std::max<int64_t>(n_samples_, 1);
  const std::vector<RowChunk> chunks = cut(ranges, chunk_rows);

  const auto unit_cells = [&](int64_t unit) {
    return nodes[unit / n_tiles].cells + bins_.cell_offset(tiles[unit % n_tiles].first_feature) -
           first_cell;
  };
  std::vector<std::atomic<bool>> taken(n_units);
  std::vector<std::vector<HistCell*>> cells(threads, std::vector<HistCell*>(n_units));
  for (ThreadScratch& scratch : scratch_) scratch.n_used = 0;
  for (int64_t unit = 0; unit < n_units; ++unit)  // no chunk of rows will
    if (nodes[unit / n_tiles].rows.size() == 0)
      clear(tiles[unit % n_tiles], nodes[unit / n_tiles].live, unit_cells(unit));
  team_.run(threads, int64_t(chunks.size()) * n_tiles, [&](int64_t i, int thread) {
    const RowChunk& chunk = chunks[i / n_tiles];
    const FeatureTile& tile = tiles[i % n_tiles];
    const int64_t unit = chunk.task * n_tiles + i % n_tiles;
    ThreadScratch& scratch = scratch_[thread];
    HistCell*& to = cells[thread][unit];
    if (!to) {
      to = taken[unit].exchange(true) ? scratch.take_cells() : unit_cells(unit);
      clear(tile, nodes[chunk.task].live, to);
    }
    add_rows(chunk.rows, tile, scratch, to);
  });
  if (!cut_nodes && !bins_.has_sparse_tiles()) return;
  std::vector<HistCell> totals(nodes.size());
  if (bins_.has_sparse_tiles())
    team_.run(threads, int64_t(nodes.size()),
              [&](int64_t i, int) { totals[i] = sum_rows(ranges[i]); });
  team_.run(threads, n_units, [&](int64_t unit, int) {
    const int64_t i = unit / n_tiles;
    const FeatureTile& tile = tiles[unit % n_tiles];
    HistCell* to = unit_cells(unit);
    for (const auto& of_thread : cells)
      if (of_thread[unit] && of_thread[unit] != to)
        add_cells(tile, nodes[i].live, of_thread[unit], to);
    if (tile.is_sparse()) fill_default_places(tile, nodes[i].live, totals[i], to);
  });
}

// A small node needs no cells of its own: its sums are made, searched and forgotten tile by tile,
// without leaving the cache. (Subtraction would move more bytes than the rows have.)
int64_t CpuBackend::max_direct_rows() const {
  if (bins_.tiles().empty()) return INT64_MAX;
  return int64_t(kMaxDirectUpdates / bins_.updates_per_feature());
}

CpuBackend::TileSums CpuBackend::sum_tile(const FindSplitTask& task, const FeatureTile& tile,
                                          ThreadScratch& scratch) {
  if (wide_ || task.rows.size() > rows_per_flush_) {
    scratch.n_used = 0;
    HistCell* cells = scratch.take_cells();
    clear(tile, task.live, cells);
    add_rows(task.rows, tile, scratch, cells);
    if (tile.is_sparse()) fill_default_places(tile, task.live, task.total, cells);
    return {{}, cells};
  }
  const Lanes<uint32_t> lanes = scratch.lanes<uint32_t>();
  if (!tile.is_sparse()) {
    fill_lanes(tile, row_order_.data() + task.rows.begin, task.rows.size(), lanes);
  } else {
    uint32_t* const places = lanes.side_by_side;
    clear(tile, task.live, places);
    kernels_.add_sparse_rows8({tile.row_begin, tile.entries}, row_order_.data() + task.rows.begin,
                              task.rows.size(), pairs8_.data(), places);
    fill_default_places(tile, task.live, cell_lane(task.total), places);
  }
  return {lanes, nullptr};
}

}  // namespace qgbdt
