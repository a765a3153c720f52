#include "binned_matrix.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <numeric>
#include <type_traits>
#include <utility>

#include "support/check.h"

namespace qgbdt {
namespace {

constexpr int64_t kRowsPerTask = 2048;
constexpr int64_t kScratchColumn = 512;  // bytes of X: a dense tile's 32, 16 kB, stay in L1
constexpr int kCacheLine = 64;
constexpr int64_t kLayoutRows = 512;     // that decide how a tile is laid out
constexpr double kSparseShare = 0.75;    // of values in default places, from which a tile is sparse
constexpr double kSparseRowUpdates = 8;  // what finding a row's entries costs
constexpr double kListedShare = 1 - 1.0 / 64;  // of zeros, from which features are listed
constexpr int64_t kFeaturesPerTask = 64;

int32_t tile_stride(int32_t n_features) {
  return int32_t(std::bit_ceil(uint32_t(std::max(n_features, 4))));
}

template <class T>
constexpr int64_t kBlockRows = kScratchColumn / int64_t(sizeof(T));

// A block of X as columns, kBlockRows apart.
template <class T>
void copy_columns(const MatrixView& X, const T* x, int64_t n, int32_t width, T* columns) {
  for (int64_t row = 0; row < n; ++row)
    for (int32_t i = 0; i < width; ++i)
      columns[i * kBlockRows<T> + row] = x[row * X.row_stride + i * X.column_stride];
}

// A block of columns as rows of `stride` bytes, a multiple of 4.
void interleave(const uint8_t* columns, int64_t block_rows, int64_t n, int32_t stride,
                uint8_t* rows) {
  for (int32_t i = 0; i < stride; i += 4) {
    const uint8_t* x = columns + i * block_rows;
    for (int64_t row = 0; row < n; ++row) {
      const uint8_t four[4] = {x[row], x[block_rows + row], x[2 * block_rows + row],
                               x[3 * block_rows + row]};
      std::memcpy(rows + row * stride + i, four, 4);
    }
  }
}

// Places instead of bins.
void to_places(uint8_t* bins, int64_t n, uint8_t missing_bin, BinOrder order) {
  for (int64_t i = 0; i < n; ++i)
    bins[i] = uint8_t(order.place(position_of_bin(bins[i], missing_bin)));
}

// Appends what is not in its default place, row after row, and notes how many each row has.
void list_entries(const uint8_t* columns, int64_t block_rows, int64_t n, int32_t width,
                  const uint8_t* default_places, const int64_t* cell_offsets, uint32_t* n_entries,
                  std::vector<uint16_t>& entries) {
  for (int64_t row = 0; row < n; ++row) {
    const size_t before = entries.size();
    for (int32_t i = 0; i < width; ++i) {
      const uint8_t place = columns[i * block_rows + row];
      if (place != default_places[i])
        entries.push_back(uint16_t(cell_offsets[i] - cell_offsets[0] + place));
    }
    n_entries[row] = uint32_t(entries.size() - before);
  }
}

}  // namespace

template <class View>
BinnedMatrix::BinnedMatrix(const View& X, GlobalRows rows, int max_bin, const BinKernels& kernels,
                           Comm& comm, Team& team)
    : n_samples_(X.n_samples),
      rows_(std::move(rows)),
      has_missing_(X.n_features, 0),
      default_places_(X.n_features, 0),
      stored_(X.n_features) {
  check(2 <= max_bin && max_bin <= kMaxValueBins, "max_bin must be in [2, 255]");
  check(rows_.n_samples() == n_samples_, "blocks of rows must sum to n_samples");
  check(rows_.n_samples_of_all() >= 1 && rows_.n_samples_of_all() <= INT32_MAX,
        "n_samples must be in [1, 2^31 - 1]");
  check(X.n_features >= 1 && X.n_features <= INT32_MAX / kBinPlaces, "too many features");
  comm.begin_phase("binning");
  thresholds_ = find_bin_thresholds(X, rows_, max_bin, comm, team);
  for (int32_t f = 0; f < n_features(); ++f) bin_orders_.push_back(order_of_bins(n_value_bins(f)));
  visit_elements(X, [&]<class T>(const T* data) {
    assign_bins(X, data, kernel_for(kernels, data), comm, team);
  });
  std::vector<double> missing(has_missing_.begin(), has_missing_.end());
  comm.allreduce_max(missing);
  has_missing_.assign(missing.begin(), missing.end());
}
template BinnedMatrix::BinnedMatrix(const MatrixView&, GlobalRows, int, const BinKernels&, Comm&,
                                    Team&);
template BinnedMatrix::BinnedMatrix(const SparseView&, GlobalRows, int, const BinKernels&, Comm&,
                                    Team&);

// The most frequent place of each feature, and its share, among some rows: the layout depends on
// it, no result does.
template <class T>
std::vector<double> BinnedMatrix::find_default_places(const MatrixView& X, const T* data,
                                                      const std::vector<BinTable<T>>& tables,
                                                      BinColumn<T> bin_column) {
  const int64_t n = std::min(n_samples_, kLayoutRows);
  std::vector<double> shares;
  for (int32_t f = 0; f < n_features(); ++f) {
    T values[kLayoutRows];
    uint8_t bins[kLayoutRows];
    int32_t counts[kBinPlaces] = {};
    for (int64_t i = 0; i < n; ++i)
      values[i] = data[n_samples_ * i / n * X.row_stride + f * X.column_stride];
    bin_column(tables[f], values, n, uint8_t(n_value_bins(f)), bins);
    to_places(bins, n, uint8_t(n_value_bins(f)), bin_orders_[f]);
    for (int64_t i = 0; i < n; ++i) ++counts[bins[i]];
    const auto most = std::max_element(counts, counts + kBinPlaces);
    default_places_[f] = uint8_t(most - counts);
    shares.push_back(double(*most) / double(std::max<int64_t>(n, 1)));
  }
  return shares;
}

// The place of 0, and the share of rows that are not listed.
std::vector<double> BinnedMatrix::find_default_places(const SparseView& X) {
  std::vector<double> shares;
  for (int32_t f = 0; f < n_features(); ++f) {
    StoredColumn& stored = stored_[f];
    const std::vector<double>& t = thresholds_[f];
    stored.default_bin = uint8_t(std::lower_bound(t.begin(), t.end(), 0.0) - t.begin());
    default_places_[f] =
        uint8_t(bin_orders_[f].place(position_of_bin(stored.default_bin, n_value_bins(f))));
    stored.n_listed = X.column_begin[f + 1] - X.column_begin[f];
    shares.push_back(1 - double(stored.n_listed) / double(std::max<int64_t>(n_samples_, 1)));
  }
  return shares;
}

void BinnedMatrix::lay_out(const std::vector<double>& default_shares, bool may_list) {
  const auto fits_sparse = [&](int32_t width) {  // row_begin counts entries in 32 bits
    return width <= kSparseTileFeatures && n_samples_ * width <= UINT32_MAX;
  };
  cell_offsets_.push_back(0);
  int64_t n_in_columns = 0, n_listed = 0;
  for (int32_t f = 0; f < n_features(); f += kTileFeatures) {
    const int32_t width = std::min(kTileFeatures, n_features() - f);
    const double share =
        std::accumulate(&default_shares[f], &default_shares[f] + width, 0.0) / width;
    const bool listed = may_list && share >= kListedShare;
    for (int32_t i = f; i < f + width; ++i) {
      StoredColumn& stored = stored_[i];
      stored.is_listed = listed;
      stored.begin = std::exchange(listed ? n_listed : n_in_columns,
                                   listed ? n_listed + stored.n_listed : n_in_columns + n_samples_);
      if (listed) listed_features_.push_back(i);
      cell_offsets_.push_back(cell_offsets_.back() + (listed ? 0 : bin_orders_[i].n_places()));
    }
    if (listed) continue;
    const bool sparse = share >= kSparseShare && fits_sparse(width);
    FeatureTile* last = tiles_.empty() ? nullptr : &tiles_.back();
    const bool joins = sparse && last && last->stride == 0 &&
                       last->first_feature + last->n_features == f &&
                       fits_sparse(last->n_features + width);
    if (joins) last->n_features += width;
    else tiles_.push_back({f, width, sparse ? 0 : tile_stride(width), nullptr, nullptr, nullptr});
  }
  std::vector<int64_t> offsets{0};
  for (const FeatureTile& tile : tiles_)
    offsets.push_back(offsets.back() +
                      (tile.stride * n_samples_ + kCacheLine - 1) / kCacheLine * kCacheLine);
  tile_storage_ = Buffer<uint8_t>(offsets.back());
  columns_ = Buffer<uint8_t>(n_in_columns);
  listed_rows_ = Buffer<uint32_t>(n_listed);
  listed_bins_ = Buffer<uint8_t>(n_listed);
  for (size_t i = 0; i < tiles_.size(); ++i) {
    if (tiles_[i].stride > 0) {
      tiles_[i].bins = tile_storage_.data() + offsets[i];
    } else {
      sparse_.push_back({Buffer<uint32_t>(n_samples_ + 1), {}});
      tiles_[i].row_begin = sparse_.back().row_begin.data();
    }
  }
}

template <class T>
void BinnedMatrix::assign_bins(const MatrixView& X, const T* data, BinColumn<T> bin_column, Comm&,
                               Team& team) {
  std::vector<BinTable<T>> tables;
  for (const auto& thresholds : thresholds_) tables.push_back(bin_table<T>(thresholds));
  lay_out(find_default_places(X, data, tables, bin_column), false);
  std::vector<std::atomic<uint8_t>> missing(n_features());
  fill_tiles<kBlockRows<T>>(
      team, [&](const FeatureTile& tile, int64_t begin, int64_t n, uint8_t* bins) {
        T copy[kSparseTileFeatures * kBlockRows<T>];
        const T* x = data + begin * X.row_stride + tile.first_feature * X.column_stride;
        const bool has_columns = X.row_stride == 1;
        if (!has_columns) copy_columns(X, x, n, tile.n_features, copy);
        for (int32_t i = 0; i < tile.n_features; ++i) {
          const int32_t f = tile.first_feature + i;
          const T* values = has_columns ? x + i * X.column_stride : copy + i * kBlockRows<T>;
          uint8_t* column = bins + i * kBlockRows<T>;
          if (bin_column(tables[f], values, n, uint8_t(n_value_bins(f)), column))
            missing[f].store(1, std::memory_order_relaxed);
          std::memcpy(columns_.data() + stored_[f].begin + begin, column, n);
        }
      });
  has_missing_.assign(missing.begin(), missing.end());
}

// Columns first: what is listed is scattered over them, or stays a list.
template <class T>
void BinnedMatrix::assign_bins(const SparseView& X, const T* data, BinColumn<T> bin_column,
                               Comm& comm, Team& team) {
  lay_out(find_default_places(X), comm.world_size() == 1);
  const int threads = team.threads_for(X.column_begin[X.n_features], kValuesPerThread);
  team.run_blocks(threads, n_features(), kFeaturesPerTask, [&](int64_t first, int64_t last, int) {
    std::vector<uint8_t> binned;
    for (int32_t f = int32_t(first); f < last; ++f) {
      const StoredColumn& stored = stored_[f];
      const int64_t begin = X.column_begin[f];
      binned.resize(stored.n_listed);
      has_missing_[f] = bin_column(bin_table<T>(thresholds_[f]), data + begin, stored.n_listed,
                                   uint8_t(n_value_bins(f)), binned.data());
      if (stored.is_listed) {
        std::copy(binned.begin(), binned.end(), listed_bins_.data() + stored.begin);
        std::copy_n(X.rows + begin, stored.n_listed, listed_rows_.data() + stored.begin);
      } else {
        uint8_t* column = columns_.data() + stored.begin;
        std::fill_n(column, n_samples_, stored.default_bin);
        for (int64_t i = 0; i < stored.n_listed; ++i) column[X.rows[begin + i]] = binned[i];
      }
    }
  });
  fill_tiles<kScratchColumn>(
      team, [&](const FeatureTile& tile, int64_t begin, int64_t n, uint8_t* bins) {
        for (int32_t i = 0; i < tile.n_features; ++i)
          std::memcpy(bins + i * kScratchColumn, column(tile.first_feature + i) + begin, n);
      });
}

// fill_columns(tile, begin, n, bins): the bins of n rows from `begin`, columns kRows apart.
template <int64_t kRows, class FillColumns>
void BinnedMatrix::fill_tiles(Team& team, const FillColumns& fill_columns) {
  const int64_t n_tiles = int64_t(tiles_.size());
  const int64_t n_tasks =  // neighbours in a row of X follow one another
      (n_samples_ + kRowsPerTask - 1) / kRowsPerTask * n_tiles;
  const int threads = team.threads_for(n_samples_ * n_features(), kValuesPerThread);
  std::vector<std::vector<uint16_t>> entries(has_sparse_tiles() ? n_tasks : 0);
  team.run(threads, n_tasks, [&](int64_t task, int) {
    const FeatureTile& tile = tiles_[task % n_tiles];
    // The unused bytes of a tile's rows are 0.
    uint8_t bins[kSparseTileFeatures * kRows] = {};
    const int64_t end = std::min(n_samples_, (task / n_tiles + 1) * kRowsPerTask);
    for (int64_t begin = task / n_tiles * kRowsPerTask; begin < end; begin += kRows) {
      const int64_t n = std::min(kRows, end - begin);
      fill_columns(tile, begin, n, bins);
      for (int32_t i = 0; i < tile.n_features; ++i) {
        const int32_t f = tile.first_feature + i;
        to_places(bins + i * kRows, n, uint8_t(n_value_bins(f)), bin_orders_[f]);
      }
      if (tile.is_sparse()) {
        list_entries(bins, kRows, n, tile.n_features, &default_places_[tile.first_feature],
                     &cell_offsets_[tile.first_feature],
                     const_cast<uint32_t*>(tile.row_begin) + begin + 1, entries[task]);
      } else {
        uint8_t* rows = const_cast<uint8_t*>(tile.bins) + begin * tile.stride;
        interleave(bins, kRows, n, tile.stride, rows);
      }
    }
  });
  if (has_sparse_tiles()) join_sparse_tiles(entries, team);
}

// row_begin holds the number of entries of the row before it; it becomes their sum. `entries` are
// those of each task of assign_bins.
void BinnedMatrix::join_sparse_tiles(std::vector<std::vector<uint16_t>>& entries, Team& team) {
  std::vector<size_t> positions;
  for (size_t i = 0; i < tiles_.size(); ++i)
    if (tiles_[i].is_sparse()) positions.push_back(i);
  team.run(team.n_threads(), int64_t(positions.size()), [&](int64_t k, int) {
    SparseTile& sparse = sparse_[k];
    uint32_t* row_begin = sparse.row_begin.data();
    row_begin[0] = 0;
    std::partial_sum(row_begin, row_begin + n_samples_ + 1, row_begin);
    sparse.entries = Buffer<uint16_t>(std::max<int64_t>(row_begin[n_samples_], 1));
    uint16_t* out = sparse.entries.data();
    for (size_t task = positions[k]; task < entries.size(); task += tiles_.size()) {
      out = std::copy(entries[task].begin(), entries[task].end(), out);
      entries[task] = {};
    }
    tiles_[positions[k]].entries = sparse.entries.data();
  });
  double saved = 0;
  for (const size_t i : positions) {
    const double entries_per_row =
        double(tiles_[i].row_begin[n_samples_]) / double(n_samples_) + kSparseRowUpdates;
    saved += std::max(0.0, tiles_[i].n_features - entries_per_row);
  }
  updates_per_feature_ = 1 - saved / double(n_features() - int64_t(listed_features_.size()));
}

void BinnedMatrix::copy_column(int32_t feature, uint8_t* bins) const {
  if (!is_listed(feature)) {
    std::copy_n(column(feature), n_samples_, bins);
    return;
  }
  const ListedColumn listed = listed_column(feature);
  std::fill_n(bins, n_samples_, listed.default_bin);
  for (int64_t i = 0; i < listed.n; ++i) bins[listed.rows[i]] = listed.bins[i];
}

}  // namespace qgbdt
