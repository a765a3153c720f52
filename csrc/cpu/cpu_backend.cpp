#include "cpu_backend.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>

#include "../best_splits.h"
#include "../fixed_point.h"
#include "../support/check.h"
#include "searched_node.h"

namespace qgbdt {
namespace {

// Work that should outweigh waking a thread (a few microseconds), in units of each verb. 12,500
// rows x 20, 31 leaves, two threads: with two to four times as much a fit takes a tenth longer.
constexpr int64_t kRowsPerThread = 2048;      // elementwise passes
constexpr int64_t kUpdatesPerThread = 16384;  // histogram adds
constexpr int64_t kBinsPerThread = 2048;      // split scan
constexpr int64_t kRowBlock = 4096;           // rows of one task of an elementwise pass
constexpr int64_t kCutRowsPerThread = 8192;   // with fewer, tiles are cut instead of rows
constexpr int64_t kMinChunkRows = 2048;       // a node is cut over threads into no smaller parts
constexpr int64_t kMaxChunkRows = 16384;
constexpr double kMaxDirectUpdates = 512;  // a feature, of a node without cells

// Nodes cut into some chunks for each thread, none too small.
int64_t rows_per_chunk(int64_t total_rows, int n_threads) {
  return std::clamp(total_rows / (8 * n_threads), kMinChunkRows, kMaxChunkRows);
}

// Dense tiles cut into as many parts as may feed n_threads with few nodes.
std::vector<FeatureTile> cut_tiles(const BinnedMatrix& bins, const std::vector<FeatureTile>& tiles,
                                   int n_threads) {
  std::vector<FeatureTile> parts;
  for (const FeatureTile& tile : tiles) {
    if (tile.is_sparse()) parts.push_back(tile);
    const int32_t fours = (tile.n_bundles + 3) / 4;  // adds read four bytes at once
    const int32_t width = (fours + n_threads - 1) / n_threads * 4;
    const int32_t last_bundle = tile.first_bundle + tile.n_bundles;
    for (int32_t b = tile.first_bundle; b < last_bundle; b += width) {
      const Bundle end = bins.bundles()[std::min(b + width, last_bundle) - 1];
      parts.push_back(bins.part_of(
          tile, {bins.bundles()[b].first_feature, end.first_feature + end.n_features}));
    }
  }
  return parts;
}

// The tiles that have a feature in the range, whole, to be summed.
std::vector<FeatureTile> tiles_with(const std::vector<FeatureTile>& tiles, FeatureRange range) {
  std::vector<FeatureTile> found;
  for (const FeatureTile& tile : tiles)
    if (tile.first_feature < range.end && range.begin < tile.first_feature + tile.n_features)
      found.push_back(tile);
  return found;
}

// What of the tiles lies in the range, to be searched.
std::vector<FeatureTile> clip_tiles(const BinnedMatrix& bins, FeatureRange range) {
  std::vector<FeatureTile> clipped = tiles_with(bins.tiles(), range);
  for (FeatureTile& tile : clipped) tile = bins.part_of(tile, range);
  return clipped;
}

bool has_allowed(const uint8_t* allowed, const FeatureTile& tile) {
  const uint8_t* const first = allowed + tile.first_feature;
  return std::any_of(first, first + tile.n_features, [](uint8_t is_allowed) { return is_allowed; });
}

void merge(const Magnitudes& from, Magnitudes* to) {
  to->max = std::max(to->max, from.max);
  for (int e = 0; e < 256; ++e) to->counts[e] += from.counts[e];
}

using RangesOfThreads = std::vector<std::vector<GradientRange>>;  // [n_threads][n_outputs]

void merge(const RangesOfThreads& local, std::span<GradientRange> ranges) {
  for (size_t k = 0; k < ranges.size(); ++k) {
    ranges[k] = {};
    for (const auto& l : local) {
      merge(l[k].gradient, &ranges[k].gradient);
      merge(l[k].hessian, &ranges[k].hessian);
    }
  }
}

}  // namespace

// The sums of a node's rows in one tile as lanes: by byte, kBinPlaces each, or by feature, side by
// side like cells, where the tile is sparse or its byte shared.
template <class Lane>
struct CpuBackend::Lanes {
  Lane* of_bytes;
  Lane* side_by_side;
};

// One thread's lanes, and cells for tiles whose own are taken.
struct CpuBackend::ThreadScratch {
  Buffer<HistCell> of_bytes, side_by_side;  // 32-bit lanes use half
  std::vector<Buffer<HistCell>> cells;
  size_t n_used = 0;

  template <class Lane>
  Lanes<Lane> lanes() {
    if (!of_bytes.size()) {
      of_bytes = Buffer<HistCell>(kTileBytes * kBinPlaces);
      side_by_side = Buffer<HistCell>(kMaxTileFeatures * kBinPlaces);
    }
    return {reinterpret_cast<Lane*>(of_bytes.data()), reinterpret_cast<Lane*>(side_by_side.data())};
  }
  HistCell* take_cells() {
    if (n_used == cells.size()) cells.emplace_back(kMaxTileFeatures * kBinPlaces);
    return cells[n_used++].data();
  }
};

// What one thread needs for a query.
struct CpuBackend::QueryScratch {
  std::vector<Document> documents;
  std::vector<double> score, gain, discount, g, h;
  std::vector<int64_t> position;

  explicit QueryScratch(int64_t longest_query)
      : documents(longest_query),
        score(whole_rival_lanes(longest_query)),
        gain(score.size()),
        discount(score.size()),
        g(longest_query),
        h(longest_query),
        position(longest_query) {}
  RankingScratch view() {
    return {{score.data(), gain.data(), discount.data(), position.data()}, g.data(), h.data()};
  }
};

// The sums of a node's rows in one tile: lanes or, of more rows than those hold, cells.
struct CpuBackend::TileSums {
  Lanes<uint32_t> lanes;
  const HistCell* cells;
};

CpuBackend::CpuBackend(TrainingData data, Team& team)
    : data_(std::move(data)),
      bins_(*data_.bins),
      kernels_(choose_kernels()),
      team_(team),
      n_samples_(bins_.n_samples()),
      raw_prediction_(n_samples_ * data_.n_outputs),
      gradient_(n_samples_ * data_.n_outputs),
      hessian_(n_samples_ * data_.n_outputs),
      n_in_use_(n_samples_),
      row_order_(n_samples_),
      scratch_rows_(n_samples_),
      scratch_(team.n_threads()),
      searched_(data_.searched),
      tile_parts_(cut_tiles(bins_, bins_.tiles(), team.n_threads())),
      all_own_tiles_(tiles_with(bins_.tiles(), searched_)),
      all_searched_tiles_(clip_tiles(bins_, searched_)) {
  set_features({});
  rows_ = {n_samples_,       data_.n_outputs, data_.target, data_.weight, raw_prediction_.data(),
           gradient_.data(), hessian_.data()};
  if (data_.raw_prediction)
    std::copy_n(data_.raw_prediction, raw_prediction_.size(), raw_prediction_.data());
  if (is_ranking(data_.objective)) {
    ranking_tables_ = ranking_tables(data_);
    ranking_ = {data_.query_begin.data(), ranking_tables_.inverse_max_dcg.data(),
                data_.truncation_level};
  }
}

CpuBackend::~CpuBackend() = default;

// Best score first; where scores are equal, in the order of rows.
void CpuBackend::rank_documents(int64_t query, Document* documents) const {
  const int64_t begin = data_.query_begin[query], n = data_.query_begin[query + 1] - begin;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t label = int64_t(rows_.target[begin + i]);
    documents[i] = {rows_.raw_prediction[begin + i], data_.label_gain[label], 0, i};
  }
  std::sort(documents, documents + n, [](const Document& a, const Document& b) {
    return a.score != b.score ? a.score > b.score : a.position < b.position;
  });
  for (int64_t rank = 0; rank < n; ++rank)
    documents[rank].discount = ranking_tables_.discount[rank];
}

void CpuBackend::set_start_scores(std::span<const double> scores) {
  for (size_t k = 0; k < scores.size(); ++k)
    std::fill_n(raw_prediction_.data() + int64_t(k) * n_samples_, n_samples_, scores[k]);
  std::iota(row_order_.data(), row_order_.data() + n_samples_, 0u);
}

void CpuBackend::compute_query_gradients(uint64_t key, int64_t query, QueryScratch& scratch,
                                         GradientRange* range) {
  if (data_.objective == ObjectiveKind::lambdarank) {
    rank_documents(query, scratch.documents.data());
    kernels_.query_gradients(ranking_, rows_, query, scratch.documents.data(), scratch.view(),
                             range);
    return;
  }
  const int64_t begin = data_.query_begin[query], end = data_.query_begin[query + 1];
  bins_.rows().for_stretches(begin, end, [&](int64_t from, int64_t to, int64_t first_row) {
    for (int64_t i = from; i < to; ++i)
      scratch.g[i - begin] = RankXendcg::relevance(data_.label_gain[int64_t(data_.target[i])],
                                                   row_hash(key, uint64_t(first_row + i)));
  });
  kernels_.xendcg_gradients(rows_, begin, end - begin, scratch.view(), range);
}

// Those of a function of all rows are there; those of single rows are computed.
void CpuBackend::compute_custom_gradients(int64_t begin, int64_t end, GradientRange* ranges) {
  if (data_.custom.of_rows) {
    double g[kRowBlock], h[kRowBlock];
    data_.custom.of_rows(end - begin, rows_.raw_prediction + begin, rows_.target + begin, g, h);
    for (int64_t i = begin; i < end; ++i) {
      rows_.gradient[i] = to_gradient(g[i - begin] * data_.weight_of(i));
      rows_.hessian[i] = to_gradient((h[i - begin] > 0 ? h[i - begin] : 0.0) * data_.weight_of(i));
    }
  }
  for (int k = 0; k < rows_.n_outputs; ++k) {
    kernels_.measure(rows_.gradient + k * n_samples_ + begin, end - begin, &ranges[k].gradient);
    kernels_.measure(rows_.hessian + k * n_samples_ + begin, end - begin, &ranges[k].hessian);
  }
}

void CpuBackend::compute_gradients(uint64_t key, std::span<GradientRange> ranges) {
  const int threads = team_.threads_for(n_samples_ * rows_.n_outputs, kRowsPerThread);
  RangesOfThreads local(threads, std::vector<GradientRange>(ranges.size()));
  if (is_ranking(data_.objective)) {
    std::vector<QueryScratch> scratch(threads, QueryScratch(ranking_tables_.longest_query));
    team_.run(threads, int64_t(data_.query_begin.size()) - 1, [&](int64_t query, int thread) {
      compute_query_gradients(key, query, scratch[thread], local[thread].data());
    });
  } else if (data_.objective == ObjectiveKind::custom) {
    const size_t n_values = size_t(n_samples_ * rows_.n_outputs);
    if (data_.custom.of_all)
      data_.custom.of_all({rows_.raw_prediction, n_values}, {rows_.gradient, n_values},
                          {rows_.hessian, n_values});
    team_.run_blocks(threads, n_samples_, kRowBlock, [&](int64_t begin, int64_t end, int thread) {
      compute_custom_gradients(begin, end, local[thread].data());
    });
  } else {
    team_.run_blocks(threads, n_samples_, kRowBlock, [&](int64_t begin, int64_t end, int thread) {
      kernels_.gradients(data_.objective, data_.args, rows_, begin, end, local[thread].data());
    });
  }
  merge(local, ranges);
  n_in_use_ = n_samples_;
}

// Of all outputs' gradients of a row.
void CpuBackend::find_magnitudes() {
  if (!magnitude_bits_.size()) magnitude_bits_ = Buffer<uint32_t>(n_samples_);
  const int threads = team_.threads_for(n_samples_ * rows_.n_outputs, kRowsPerThread);
  team_.run_blocks(threads, n_samples_, kRowBlock, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      double sum = 0;
      for (int64_t at = i; at < n_samples_ * rows_.n_outputs; at += n_samples_)
        sum += std::abs(double(rows_.gradient[at]) * double(rows_.hessian[at]));
      magnitude_bits_.data()[i] = magnitude_bits(sum);
    }
  });
}

void CpuBackend::count_magnitudes(uint32_t prefix, int shift, std::span<int64_t> counts) {
  const int bits = std::countr_zero(counts.size());
  if (shift + bits == 32) find_magnitudes();  // the first digit
  const int threads = team_.threads_for(n_samples_, kRowsPerThread);
  std::vector<std::vector<int64_t>> local(threads, std::vector<int64_t>(counts.size()));
  team_.run_blocks(threads, n_samples_, kRowBlock, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t i = begin; i < end; ++i) {
      const uint64_t digits = magnitude_bits_.data()[i] >> shift;
      if (digits >> bits == prefix) ++local[thread][digits & (counts.size() - 1)];
    }
  });
  for (const auto& l : local)
    std::transform(l.begin(), l.end(), counts.begin(), counts.begin(), std::plus<>());
}

void CpuBackend::draw_rows(const RowSample& sample) {
  if (!left_out_.size()) left_out_ = Buffer<uint8_t>(n_samples_);
  uint8_t* const left_out = left_out_.data();
  const int threads = team_.threads_for(n_samples_, kRowsPerThread);
  if (sample.by_query) {
    const std::vector<int64_t>& query_begin = data_.query_begin;
    team_.run(threads, int64_t(query_begin.size()) - 1, [&](int64_t query, int) {
      const int64_t begin = query_begin[query], end = query_begin[query + 1];
      bins_.rows().for_stretches(begin, std::min(begin + 1, end), [&](int64_t, int64_t, int64_t n) {
        std::fill(left_out + begin, left_out + end, !is_drawn(sample, n + begin));
      });
    });
    return;
  }
  team_.run_blocks(threads, n_samples_, kRowBlock, [&](int64_t begin, int64_t end, int) {
    bins_.rows().for_stretches(begin, end, [&](int64_t from, int64_t to, int64_t first_row) {
      for (int64_t i = from; i < to; ++i) left_out[i] = !is_drawn(sample, first_row + i);
    });
    if (sample.by_gradient)
      for (int64_t i = begin; i < end; ++i)
        left_out[i] &= magnitude_bits_.data()[i] < sample.least_large;
  });
}

int64_t CpuBackend::sample_rows(const RowSample& sample, std::span<GradientRange> ranges) {
  draw_rows(sample);
  const int threads = team_.threads_for(n_samples_ * rows_.n_outputs, kRowsPerThread);
  std::vector<int64_t> n_left_out(threads);
  RangesOfThreads local(threads, std::vector<GradientRange>(ranges.size()));
  team_.run_blocks(threads, n_samples_, kRowBlock, [&](int64_t begin, int64_t end, int thread) {
    double factor[kRowBlock];
    for (int64_t i = begin; i < end; ++i) {
      const bool is_large = sample.by_gradient && magnitude_bits_.data()[i] >= sample.least_large;
      n_left_out[thread] += left_out_.data()[i];
      factor[i - begin] = left_out_.data()[i] ? 0 : is_large ? 1 : sample.amplification;
    }
    for (int k = 0; k < rows_.n_outputs; ++k) {
      float* g = rows_.gradient + k * n_samples_;
      float* h = rows_.hessian + k * n_samples_;
      for (int64_t i = begin; i < end; ++i) {
        g[i] = to_gradient(double(g[i]) * factor[i - begin]);
        h[i] = to_gradient(double(h[i]) * factor[i - begin]);
      }
      kernels_.measure(g + begin, end - begin, &local[thread][k].gradient);
      kernels_.measure(h + begin, end - begin, &local[thread][k].hessian);
    }
  });
  merge(local, ranges);
  n_in_use_ = n_samples_ - std::accumulate(n_left_out.begin(), n_left_out.end(), int64_t(0));
  return n_in_use_;
}

HistCell CpuBackend::quantize(int output, const Quantization& quantization) {
  const float* g = rows_.gradient + output * n_samples_;
  const float* h = rows_.hessian + output * n_samples_;
  current_output_ = output;
  rows_per_flush_ = rows_per_flush(quantization);
  wide_ = is_wide(quantization);
  if (wide_ && !pairs16_.size()) pairs16_ = Buffer<Pair16>(n_samples_);
  if (!wide_ && !pairs8_.size()) pairs8_ = Buffer<Pair8>(n_samples_);
  const int threads = team_.threads_for(n_samples_, kRowsPerThread);
  std::vector<HistCell> totals(threads);
  team_.run_blocks(threads, n_samples_, kRowBlock, [&](int64_t begin, int64_t end, int thread) {
    std::iota(row_order_.data() + begin, row_order_.data() + end, uint32_t(begin));
    bins_.rows().for_stretches(begin, end, [&](int64_t from, int64_t to, int64_t first_row) {
      totals[thread] +=
          wide_ ? kernels_.quantize16(quantization, g, h, first_row, from, to, pairs16_.data())
                : kernels_.quantize8(quantization, g, h, first_row, from, to, pairs8_.data());
    });
  });
  const HistCell total = std::accumulate(totals.begin(), totals.end(), HistCell(0));
  if (n_in_use_ == n_samples_) return total;
  const RowCut cut{{0, uint32_t(n_samples_)}, left_out_.data(), 0, -1};
  int64_t n_in_use = 0;
  partition_rows({&cut, 1}, {&n_in_use, 1});
  return quantization.constant_hessian ? make_cell(cell_gradient(total), int32_t(n_in_use)) : total;
}

void CpuBackend::set_features(std::span<const uint8_t> allowed) {
  const auto used = [&](std::vector<FeatureTile> tiles) {
    std::erase_if(tiles, [&](const FeatureTile& tile) {
      return !allowed.empty() && !has_allowed(allowed.data(), tile);
    });
    return tiles;
  };
  own_tiles_ = used(all_own_tiles_);
  own_parts_ = cut_tiles(bins_, own_tiles_, team_.n_threads());
  searched_tiles_ = used(all_searched_tiles_);
  searched_parts_ = cut_tiles(bins_, searched_tiles_, team_.n_threads());
}

void CpuBackend::make_slot(int32_t slot) {
  if (slot >= int32_t(slots_.size())) slots_.resize(slot + 1);
  if (!slots_[slot].size()) slots_[slot] = Buffer<HistCell>(n_cells(all_own_tiles_));
}

HistCell* CpuBackend::cells_of(int32_t slot, int32_t feature) {
  return slots_[slot].data() + bins_.cell_offset(feature) -
         bins_.cell_offset(all_own_tiles_.front().first_feature);
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

template <class Lane>
const Lane* CpuBackend::lanes_of(const Lanes<Lane>& lanes, const FeatureTile& tile,
                                 int32_t feature) const {
  const int32_t b = bins_.bundle_of(feature);
  if (tile.is_sparse() || bins_.bundles()[b].is_shared())
    return lanes.side_by_side + first_cell(tile, feature);
  return lanes.of_bytes + (b - tile.first_bundle) * kBinPlaces;
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

// What a sparse tile left out: the default place of each feature has the rest of the rows' total.
template <class Sum>
void CpuBackend::fill_default_places(const FeatureTile& tile, Sum total, Sum* sums) const {
  for (int32_t f = tile.first_feature; f < tile.first_feature + tile.n_features; ++f) {
    Sum* of_feature = sums + first_cell(tile, f);
    of_feature[bins_.default_place(f)] =
        total - std::accumulate(of_feature, of_feature + bins_.bin_order(f).n_places(), Sum(0));
  }
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

void CpuBackend::build_histograms(std::span<const HistogramTask> tasks, Comm& comm) {
  std::vector<RowSums> nodes, own, whole;
  for (const HistogramTask& task : tasks) {
    make_slot(task.slot);
    const bool own_only = comm.world_size() == 1 || sends_rows(task.rows);
    if (!own_only && whole.size() == whole_.size()) whole_.emplace_back(bins_.n_cells());
    HistCell* cells = own_only ? slots_[task.slot].data() : whole_[whole.size()].data();
    nodes.push_back({task.rows, cells});
    (own_only ? own : whole).push_back(nodes.back());
  }
  if (!own_tiles_.empty())
    sum_rows(own, own_tiles_, own_parts_, bins_.cell_offset(all_own_tiles_.front().first_feature));
  sum_rows(whole, bins_.tiles(), tile_parts_, 0);
  if (comm.world_size() > 1) reduce(tasks, nodes, comm);
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
      std::memset(unit_cells(unit), 0, n_cells(tiles[unit % n_tiles]) * sizeof(HistCell));
  team_.run(threads, int64_t(chunks.size()) * n_tiles, [&](int64_t i, int thread) {
    const RowChunk& chunk = chunks[i / n_tiles];
    const FeatureTile& tile = tiles[i % n_tiles];
    const int64_t unit = chunk.task * n_tiles + i % n_tiles;
    ThreadScratch& scratch = scratch_[thread];
    HistCell*& to = cells[thread][unit];
    if (!to) {
      to = taken[unit].exchange(true) ? scratch.take_cells() : unit_cells(unit);
      std::memset(to, 0, n_cells(tile) * sizeof(HistCell));
    }
    add_rows(chunk.rows, tile, scratch, to);
  });
  if (!cut_nodes && !bins_.has_sparse_tiles()) return;
  std::vector<HistCell> totals(nodes.size());
  if (bins_.has_sparse_tiles())
    team_.run(threads, int64_t(nodes.size()),
              [&](int64_t i, int) { totals[i] = sum_rows(ranges[i]); });
  team_.run(threads, n_units, [&](int64_t unit, int) {
    HistCell* to = unit_cells(unit);
    for (const auto& of_thread : cells)
      if (of_thread[unit] && of_thread[unit] != to)
        kernels_.flush16(of_thread[unit], n_cells(tiles[unit % n_tiles]), to);
    if (tiles[unit % n_tiles].is_sparse())
      fill_default_places(tiles[unit % n_tiles], totals[unit / n_tiles], to);
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
    std::memset(cells, 0, n_cells(tile) * sizeof(HistCell));
    add_rows(task.rows, tile, scratch, cells);
    if (tile.is_sparse()) fill_default_places(tile, task.total, cells);
    return {{}, cells};
  }
  const Lanes<uint32_t> lanes = scratch.lanes<uint32_t>();
  if (!tile.is_sparse()) {
    fill_lanes(tile, row_order_.data() + task.rows.begin, task.rows.size(), lanes);
  } else {
    uint32_t* const places = lanes.side_by_side;
    std::memset(places, 0, n_cells(tile) * sizeof(uint32_t));
    kernels_.add_sparse_rows8({tile.row_begin, tile.entries}, row_order_.data() + task.rows.begin,
                              task.rows.size(), pairs8_.data(), places);
    fill_default_places(tile, cell_lane(task.total), places);
  }
  return {lanes, nullptr};
}

FeatureBins CpuBackend::bins_of(const TileSums& sums, const FeatureTile& tile,
                                int32_t feature) const {
  const BinOrder order = bins_.bin_order(feature);
  const int32_t sign = data_.sign_of(feature);
  if (sums.cells) return {sums.cells + first_cell(tile, feature), nullptr, order, sign};
  return {nullptr, lanes_of(sums.lanes, tile, feature), order, sign};
}

void CpuBackend::subtract(const FeatureBins& bins, HistCell* cells) const {
  const int32_t n = bins.order.n_places();
  if (bins.lanes) kernels_.subtract8(bins.lanes, n, cells);
  else kernels_.subtract16(bins.cells, n, cells);
}

// The sums of at most one of the two are not in a slot.
void CpuBackend::find_tile_splits(SearchedNode& node, SearchedNode* sibling,
                                  const FeatureTile& tile, ThreadScratch& scratch) {
  const auto sums_of = [&](const FindSplitTask& task) {
    return task.slot == kNone ? sum_tile(task, tile, scratch)
                              : TileSums{{}, cells_of(task.slot, tile.first_feature)};
  };
  if (!sibling && node.task.allowed && !has_allowed(node.task.allowed, tile)) return;
  const TileSums sums = sums_of(node.task);
  const TileSums sibling_sums = sibling ? sums_of(sibling->task) : TileSums{};
  const bool search_sibling =  // it may be there to be subtracted only
      sibling && enough_rows_for_two(sibling->task.count, sibling->rules.params);
  for (int32_t f = tile.first_feature; f < tile.first_feature + tile.n_features; ++f) {
    const int32_t n_categories = this->n_categories(f);
    if (sibling) {
      const FeatureBins bins = bins_of(sibling_sums, tile, f);
      subtract(bins, cells_of(node.task.slot, f));
      if (search_sibling) sibling->search(kernels_, f, bins, n_categories);
    }
    node.search(kernels_, f, bins_of(sums, tile, f), n_categories);
  }
}

void CpuBackend::find_splits(std::span<const FindSplitTask> tasks, const SplitParams& params) {
  const int32_t n_features = bins_.n_features();
  const int64_t n_tasks = int64_t(tasks.size());
  const int threads = team_.threads_for(bins_.n_cells() * n_tasks, kBinsPerThread);
  const auto& tiles = cuts_tiles(threads, n_tasks, true) ? searched_parts_ : searched_tiles_;
  const int64_t n_tiles = int64_t(tiles.size());
  feature_splits_.assign(n_tasks * n_features, {});
  category_sets_.assign(bins_.has_categories() ? n_tasks * n_features : 0, {});
  nodes_.clear();
  std::vector<bool> is_sibling(n_tasks);
  for (const FindSplitTask& task : tasks) {
    const size_t first = nodes_.size() * n_features;
    nodes_.emplace_back(task, rules_of_node(params, task.total, task.count, task.bounds),
                        &feature_splits_[first],
                        bins_.has_categories() ? &category_sets_[first] : nullptr);
    if (task.sibling != kNone) is_sibling[task.sibling] = true;
  }
  team_.run(threads, n_tasks * n_tiles, [&](int64_t i, int thread) {
    const int64_t t = i / n_tiles;
    if (is_sibling[t]) return;
    const int32_t sibling = tasks[t].sibling;
    find_tile_splits(nodes_[t], sibling == kNone ? nullptr : &nodes_[sibling], tiles[i % n_tiles],
                     scratch_[thread]);
  });
  find_listed_splits();
}

std::vector<SplitCandidate> CpuBackend::best_splits(int32_t node_index, int32_t n) const {
  const SearchedNode& node = nodes_[node_index];
  std::vector<SplitCandidate> best =
      qgbdt::best_splits({node.features, size_t(bins_.n_features())}, searched_, node.rules, n);
  for (SplitCandidate& split : best)
    if (bins_.is_categorical(split.feature)) split.categories = node.categories[split.feature];
  return best;
}

void CpuBackend::count_rows(std::span<const CountTask> tasks, std::span<HistCell> counts) {
  int64_t total_rows = 0;
  for (const CountTask& t : tasks) total_rows += nodes_[t.node].task.rows.size();
  std::fill(counts.begin(), counts.end(), 0);
  count_tasks_.assign(tasks.begin(), tasks.end());
  counted_cells_.assign(counts.size(), 0);
  team_.run(team_.threads_for(total_rows, kRowsPerThread), int64_t(tasks.size()),
            [&](int64_t t, int) {
              const FindSplitTask& node = nodes_[tasks[t].node].task;
              const int32_t feature = tasks[t].feature;
              const uint8_t* column = bins_.column(feature);
              const int32_t missing_bin = bins_.n_value_bins(feature);
              const BinOrder order = bins_.bin_order(feature);
              HistCell* const to = &counts[t * kBinPlaces];
              HistCell* const cells = &counted_cells_[t * kBinPlaces];
              for (uint32_t i = node.rows.begin; i < node.rows.end; ++i) {
                const uint32_t row = row_order_.data()[i];
                const int32_t place = order.place(position_of_bin(column[row], missing_bin));
                ++to[place];
                if (node.slot == kNone) cells[place] += quantized(row);
              }
            });
}

void CpuBackend::find_counted_split(int32_t task, const HistCell* row_counts) {
  const auto [node_index, feature] = count_tasks_[task];
  if (!searched_.contains(feature)) return;
  SearchedNode& node = nodes_[node_index];
  uint32_t counts[kBinPlaces];
  std::transform(row_counts, row_counts + kBinPlaces, counts, cell_hessian);
  const HistCell* cells = node.task.slot == kNone ? &counted_cells_[task * kBinPlaces]
                                                  : cells_of(node.task.slot, feature);
  const FeatureBins bins{cells, nullptr, bins_.bin_order(feature), data_.sign_of(feature)};
  node.features[feature] = node.find(kernels_, feature, bins, n_categories(feature), counts, 0);
}

std::vector<CpuBackend::RowChunk> CpuBackend::cut(std::span<const RowRange> ranges,
                                                  int64_t chunk_rows) const {
  std::vector<RowChunk> chunks;
  for (size_t i = 0; i < ranges.size(); ++i)
    for (int64_t begin = ranges[i].begin; begin < ranges[i].end; begin += chunk_rows)
      chunks.push_back(
          {int64_t(i),
           {uint32_t(begin), uint32_t(std::min<int64_t>(ranges[i].end, begin + chunk_rows))}});
  return chunks;
}

// Each chunk keeps its left rows in place and puts its right rows into scratch; then both go to
// where all chunks of the node together put them. Rows stay in ascending order: gathers stay
// forward.
void CpuBackend::partition_rows(std::span<const RowCut> cuts, std::span<int64_t> left_counts) {
  std::vector<RowRange> ranges;
  int64_t total_rows = 0;
  for (const RowCut& cut : cuts) {
    ranges.push_back(cut.rows);
    total_rows += cut.rows.size();
  }
  const int threads = team_.threads_for(total_rows, kRowsPerThread);
  const std::vector<RowChunk> chunks = cut(ranges, rows_per_chunk(total_rows, threads));
  std::vector<int64_t> left(chunks.size());
  uint32_t* const order = row_order_.data();
  uint32_t* const scratch = scratch_rows_.data();
  team_.run(threads, int64_t(chunks.size()), [&](int64_t i, int) {
    const RowCut& cut = cuts[chunks[i].task];
    const RowRange rows = chunks[i].rows;
    left[i] = cut.goes_left
                  ? kernels_.partition_categories(order + rows.begin, rows.size(), cut.column,
                                                  cut.goes_left, scratch + rows.begin)
                  : kernels_.partition(order + rows.begin, rows.size(), cut.column, cut.bin,
                                       cut.missing_left_bin, scratch + rows.begin);
  });
  std::fill(left_counts.begin(), left_counts.end(), 0);
  std::vector<size_t> first_chunk(cuts.size() + 1, 0);
  for (size_t i = 0; i < chunks.size(); ++i) {
    left_counts[chunks[i].task] += left[i];
    ++first_chunk[chunks[i].task + 1];
  }
  std::partial_sum(first_chunk.begin(), first_chunk.end(), first_chunk.begin());
  team_.run(threads, int64_t(cuts.size()), [&](int64_t task, int) {
    uint32_t* left_to = order + ranges[task].begin;
    uint32_t* right_to = left_to + left_counts[task];
    const size_t first = first_chunk[task], last = first_chunk[task + 1];
    for (size_t i = first; i < last;
         left_to += left[i++])  // towards the front: none is overwritten
      if (i > first)
        std::memmove(left_to, order + chunks[i].rows.begin, left[i] * sizeof(uint32_t));
    for (size_t i = first; i < last; ++i) {
      const int64_t n_right = chunks[i].rows.size() - left[i];
      std::memcpy(right_to, scratch + chunks[i].rows.begin, n_right * sizeof(uint32_t));
      right_to += n_right;
    }
  });
}

void CpuBackend::partition(std::span<const PartitionTask> tasks, std::span<int64_t> left_counts) {
  spread_listed_columns(tasks);
  std::vector<RowCut> cuts;
  std::deque<std::array<bool, kBinPlaces>> tables;
  for (const PartitionTask& t : tasks) {
    const int32_t missing_bin = bins_.n_value_bins(t.feature);
    cuts.push_back({t.rows, column_of(t.feature), t.bin, t.missing_left ? missing_bin : -1});
    if (!bins_.is_categorical(t.feature)) continue;
    std::array<bool, kBinPlaces>& goes_left = tables.emplace_back();
    for (int32_t bin = 0; bin < missing_bin; ++bin) goes_left[bin] = t.categories.contains(bin);
    goes_left[missing_bin] = t.missing_left;
    cuts.back().goes_left = goes_left.data();
  }
  partition_rows(cuts, left_counts);
}

// Rows that are not in use have gradients of 0 and so add nothing to their leaves' sums.
void CpuBackend::set_leaves(std::span<const RowRange> leaves, std::span<const RowRange> others) {
  std::vector<RowChunk> chunks = cut(leaves, kMaxChunkRows);
  const std::vector<RowChunk> of_others = cut(others, kMaxChunkRows);
  chunks.insert(chunks.end(), of_others.begin(), of_others.end());
  team_.run(team_.threads_for(n_samples_, kRowsPerThread), int64_t(chunks.size()),
            [&](int64_t i, int) {
              const RowRange rows = chunks[i].rows;
              kernels_.mark_leaf(row_order_.data() + rows.begin, rows.size(),
                                 uint32_t(chunks[i].task), scratch_rows_.data());
            });
}

void CpuBackend::leaf_sums(int gradient_exponent, int hessian_exponent, std::span<LeafSums> sums) {
  const float* g = rows_.gradient + current_output_ * n_samples_;
  const float* h = rows_.hessian + current_output_ * n_samples_;
  const int threads = team_.threads_for(n_samples_, kRowsPerThread);
  std::vector<std::vector<LeafSums>> local(threads, std::vector<LeafSums>(sums.size()));
  team_.run_blocks(threads, n_samples_, kRowBlock, [&](int64_t begin, int64_t end, int thread) {
    kernels_.leaf_sums(scratch_rows_.data(), begin, end, g, h, power_of_two(gradient_exponent),
                       power_of_two(hessian_exponent), local[thread].data());
  });
  for (size_t i = 0; i < sums.size(); ++i) {
    sums[i] = {};
    for (const auto& l : local) {
      sums[i].gradient += l[i].gradient;
      sums[i].hessian += l[i].hessian;
    }
  }
}

void CpuBackend::add_leaf_values(int output, std::span<const double> values) {
  double* raw_prediction = rows_.raw_prediction + output * n_samples_;
  team_.run_blocks(team_.threads_for(n_samples_, kRowsPerThread), n_samples_, kRowBlock,
                   [&](int64_t begin, int64_t end, int) {
                     kernels_.add_leaf_values(scratch_rows_.data(), begin, end, values.data(),
                                              raw_prediction);
                   });
}

}  // namespace qgbdt
