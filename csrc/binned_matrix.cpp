#include "binned_matrix.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>
#include <utility>

#include "support/check.h"

namespace qgbdt {
namespace {

constexpr int64_t kRowsPerTask = 2048;
constexpr int64_t kScratchColumn = 512;  // rows: a dense tile's 32 columns, 16 kB, stay in L1
constexpr int64_t kLayoutRows = 512;     // that decide how a tile is laid out
constexpr double kSparseShare = 0.75;    // of values in default places, from which a tile is sparse
constexpr double kSparseRowUpdates = 8;  // what finding a row's entries costs
constexpr double kListedShare = 1 - 1.0 / 64;  // of zeros, from which features are listed
constexpr int64_t kFeaturesPerTask = 64;       // to scatter

int32_t tile_stride(int32_t n_features) {
  return int32_t(std::bit_ceil(uint32_t(std::max(n_features, 4))));
}

// Columns, kScratchColumn apart, as rows of `stride` bytes, a multiple of 4.
void interleave(const uint8_t* columns, int64_t n, int32_t stride, uint8_t* rows) {
  for (int32_t i = 0; i < stride; i += 4) {
    const uint8_t* x = columns + i * kScratchColumn;
    for (int64_t row = 0; row < n; ++row) {
      const uint8_t four[4] = {x[row], x[kScratchColumn + row], x[2 * kScratchColumn + row],
                               x[3 * kScratchColumn + row]};
      std::memcpy(rows + row * stride + i, four, 4);
    }
  }
}

// The next digit of a bundle's codes (bundle.h).
void add_digit(const uint8_t* bins, int64_t n, uint8_t missing_bin, uint8_t weight,
               uint8_t* codes) {
  for (int64_t i = 0; i < n; ++i)
    codes[i] = uint8_t(codes[i] + weight * position_of_bin(bins[i], missing_bin));
}

// Appends what is not in its default place, row after row, and notes how many each row has.
void list_entries(const uint8_t* columns, int64_t n, int32_t width, const uint8_t* default_places,
                  const int64_t* cell_offsets, uint32_t* n_entries,
                  std::vector<uint16_t>& entries) {
  for (int64_t row = 0; row < n; ++row) {
    const size_t before = entries.size();
    for (int32_t i = 0; i < width; ++i) {
      const uint8_t place = columns[i * kScratchColumn + row];
      if (place != default_places[i])
        entries.push_back(uint16_t(cell_offsets[i] - cell_offsets[0] + place));
    }
    n_entries[row] = uint32_t(entries.size() - before);
  }
}

}  // namespace

BinnedMatrix::BinnedMatrix(int64_t n_samples, GlobalRows rows, Binning binning,
                           std::vector<uint8_t> has_missing, Comm& comm)
    : n_samples_(n_samples),
      rows_(std::move(rows)),
      binning_(std::move(binning)),
      has_categories_(std::any_of(binning_.is_categorical.begin(), binning_.is_categorical.end(),
                                  [](uint8_t is) { return is; })),
      default_places_(n_features(), 0),
      bundle_of_(n_features(), 0),
      stored_(n_features()) {
  check(rows_.n_samples() == n_samples_, "blocks of rows must sum to n_samples");
  for (int32_t f = 0; f < n_features(); ++f) bin_orders_.push_back(order_of_bins(n_value_bins(f)));
  std::vector<double> missing(has_missing.begin(), has_missing.end());
  comm.allreduce_max(missing);
  has_missing_.assign(missing.begin(), missing.end());
}

BinnedMatrix::BinnedMatrix(DenseBins columns, GlobalRows rows, Binning binning, Comm& comm,
                           Team& team)
    : BinnedMatrix(columns.n_samples, std::move(rows), std::move(binning),
                   std::move(columns.has_missing), comm) {
  lay_out(find_default_places(columns), false);
  columns_ = columns.bins;
  column_storage_ = std::move(columns.memory);
  fill_tiles(team);
}

BinnedMatrix::BinnedMatrix(const SparseBins& columns, GlobalRows rows, Binning binning,
                           bool may_list, Comm& comm, Team& team)
    : BinnedMatrix(columns.n_samples, std::move(rows), std::move(binning), columns.has_missing,
                   comm) {
  lay_out(find_default_places(columns), may_list && comm.world_size() == 1);
  scatter(columns, team);
  fill_tiles(team);
}

// The most frequent place of each feature, and its share, among some rows: the layout depends on
// it, no result does.
std::vector<double> BinnedMatrix::find_default_places(const DenseBins& columns) {
  const int64_t n = std::min(n_samples_, kLayoutRows);
  std::vector<double> shares;
  for (int32_t f = 0; f < n_features(); ++f) {
    uint8_t bins[kLayoutRows];
    int32_t counts[kBinPlaces] = {};
    for (int64_t i = 0; i < n; ++i) bins[i] = columns.bins[f * n_samples_ + n_samples_ * i / n];
    to_places(f, n, bins);
    for (int64_t i = 0; i < n; ++i) ++counts[bins[i]];
    const auto most = std::max_element(counts, counts + kBinPlaces);
    default_places_[f] = uint8_t(most - counts);
    shares.push_back(double(*most) / double(std::max<int64_t>(n, 1)));
  }
  return shares;
}

// The place of what is not listed, and the share of rows that have it.
std::vector<double> BinnedMatrix::find_default_places(const SparseBins& columns) {
  std::vector<double> shares;
  for (int32_t f = 0; f < n_features(); ++f) {
    StoredColumn& stored = stored_[f];
    const std::vector<double>& t = thresholds(f);
    stored.default_bin = columns.others_are_missing
                             ? binning_.missing_bin(f)
                             : uint8_t(std::lower_bound(t.begin(), t.end(), 0.0) - t.begin());
    default_places_[f] =
        uint8_t(bin_orders_[f].place(position_of_bin(stored.default_bin, n_value_bins(f))));
    stored.n_listed = columns.column_begin[f + 1] - columns.column_begin[f];
    shares.push_back(1 - double(stored.n_listed) / double(std::max<int64_t>(n_samples_, 1)));
  }
  return shares;
}

// Neighbours share a byte as long as it has a code for each combination of their positions.
std::vector<Bundle> BinnedMatrix::bundle(FeatureRange features) const {
  std::vector<Bundle> bundles;
  int32_t n_codes = kBinPlaces;
  for (int32_t f = features.begin; f < features.end; ++f) {
    if (n_codes * n_positions(f) > kBinPlaces) {
      bundles.push_back({f, 0});
      n_codes = 1;
    }
    ++bundles.back().n_features;
    n_codes *= n_positions(f);
  }
  return bundles;
}

// bundles: of a dense tile, else none. Joins the last tile where both together are a tile.
void BinnedMatrix::add_tile(FeatureRange features, std::span<const Bundle> bundles) {
  const int32_t n_bundles = int32_t(bundles.size());
  FeatureTile* last = tiles_.empty() ? nullptr : &tiles_.back();
  const bool joins = last && (last->n_bundles > 0) == (n_bundles > 0) &&
                     last->first_feature + last->n_features == features.begin &&
                     last->n_bundles + n_bundles <= kTileBytes &&
                     fits_tile(last->n_features + features.size());
  if (!joins)
    last = &tiles_.emplace_back(
        FeatureTile{.first_feature = features.begin, .first_bundle = int32_t(bundles_.size())});
  last->n_features += features.size();
  last->n_bundles += n_bundles;
  last->stride = last->n_bundles > 0 ? tile_stride(last->n_bundles) : 0;
  for (const Bundle& bundle : bundles) {
    for (int32_t f = bundle.first_feature; f < bundle.first_feature + bundle.n_features; ++f)
      bundle_of_[f] = int32_t(bundles_.size());
    bundles_.push_back(bundle);
  }
}

int64_t BinnedMatrix::n_bytes() const {
  const int64_t n_columns = n_features() - int64_t(listed_features_.size());
  int64_t sum = tile_storage_.size() + n_columns * n_samples_ + listed_bins_.size() +
                listed_rows_.size() * int64_t(sizeof(uint32_t));
  for (const SparseTile& tile : sparse_)
    sum += tile.row_begin.size() * int64_t(sizeof(uint32_t)) +
           tile.entries.size() * int64_t(sizeof(uint16_t));
  return sum;
}

FeatureTile BinnedMatrix::part_of(FeatureTile tile, FeatureRange range) const {
  const int32_t first = std::max(tile.first_feature, range.begin);
  const int32_t last = std::min(tile.first_feature + tile.n_features, range.end) - 1;
  tile.first_feature = first;
  tile.n_features = last - first + 1;
  if (tile.is_sparse()) return tile;
  tile.bins += bundle_of(first) - tile.first_bundle;
  tile.first_bundle = bundle_of(first);
  tile.n_bundles = bundle_of(last) - bundle_of(first) + 1;
  return tile;
}

void BinnedMatrix::lay_out(const std::vector<double>& default_shares, bool may_list) {
  cell_offsets_.push_back(0);
  int64_t n_in_columns = 0, n_listed = 0;
  for (int32_t f = 0; f < n_features(); f += kTileBytes) {
    const int32_t width = std::min(kTileBytes, n_features() - f);
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
    const std::vector<Bundle> bundles = bundle({f, f + width});
    const double sparse_updates = width * (1 - share + kSparseRowUpdates / kMaxTileFeatures);
    const bool sparse =
        share >= kSparseShare && sparse_updates < double(bundles.size()) && fits_tile(width);
    add_tile({f, f + width}, sparse ? std::span<const Bundle>() : bundles);
  }
  std::vector<int64_t> offsets{0};
  for (const FeatureTile& tile : tiles_)
    offsets.push_back(offsets.back() +
                      (tile.stride * n_samples_ + kCacheLine - 1) / kCacheLine * kCacheLine);
  tile_storage_ = Buffer<uint8_t>(offsets.back());
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

// What is listed is scattered over columns, or stays a list.
void BinnedMatrix::scatter(const SparseBins& columns, Team& team) {
  column_storage_ = Buffer<uint8_t>((n_features() - int64_t(listed_features_.size())) * n_samples_);
  columns_ = column_storage_.data();
  const int threads = team.threads_for(columns.column_begin[n_features()], kValuesPerThread);
  team.run_blocks(threads, n_features(), kFeaturesPerTask, [&](int64_t first, int64_t last, int) {
    for (int32_t f = int32_t(first); f < last; ++f) {
      const StoredColumn& stored = stored_[f];
      const uint8_t* const bins = columns.bins + columns.column_begin[f];
      const int32_t* const rows = columns.rows + columns.column_begin[f];
      if (stored.is_listed) {
        std::copy_n(bins, stored.n_listed, listed_bins_.data() + stored.begin);
        std::copy_n(rows, stored.n_listed, listed_rows_.data() + stored.begin);
      } else {
        uint8_t* column = column_storage_.data() + stored.begin;
        std::fill_n(column, n_samples_, stored.default_bin);
        for (int64_t i = 0; i < stored.n_listed; ++i) column[rows[i]] = bins[i];
      }
    }
  });
}

// From columns.
void BinnedMatrix::fill_tiles(Team& team) {
  const int64_t n_tiles = int64_t(tiles_.size());
  const int64_t n_tasks = (n_samples_ + kRowsPerTask - 1) / kRowsPerTask * n_tiles;
  const int threads = team.threads_for(n_samples_ * n_features(), kValuesPerThread);
  std::vector<std::vector<uint16_t>> entries(has_sparse_tiles() ? n_tasks : 0);
  team.run(threads, n_tasks, [&](int64_t task, int) {
    const FeatureTile& tile = tiles_[task % n_tiles];
    uint8_t bins[kMaxTileFeatures * kScratchColumn];
    const int64_t end = std::min(n_samples_, (task / n_tiles + 1) * kRowsPerTask);
    for (int64_t begin = task / n_tiles * kRowsPerTask; begin < end; begin += kScratchColumn) {
      const int64_t n = std::min(kScratchColumn, end - begin);
      for (int32_t i = 0; i < tile.n_features; ++i)
        std::memcpy(bins + i * kScratchColumn, column(tile.first_feature + i) + begin, n);
      if (tile.is_sparse()) {
        for (int32_t i = 0; i < tile.n_features; ++i)
          to_places(tile.first_feature + i, n, bins + i * kScratchColumn);
        list_entries(bins, n, tile.n_features, &default_places_[tile.first_feature],
                     &cell_offsets_[tile.first_feature],
                     const_cast<uint32_t*>(tile.row_begin) + begin + 1, entries[task]);
      } else {
        to_bytes(tile, n, bins);
        uint8_t* rows = const_cast<uint8_t*>(tile.bins) + begin * tile.stride;
        interleave(bins, n, tile.stride, rows);
      }
    }
  });
  if (has_sparse_tiles()) join_sparse_tiles(entries, team);
  count_updates();
}

// Places instead of bins.
void BinnedMatrix::to_places(int32_t feature, int64_t n, uint8_t* bins) const {
  const BinOrder order = bin_orders_[feature];
  const int32_t missing_bin = n_value_bins(feature);
  for (int64_t i = 0; i < n; ++i)
    bins[i] = uint8_t(order.place(position_of_bin(bins[i], missing_bin)));
}

// Columns of bins, one a feature, become columns of a dense tile's bytes; those that are not used
// are 0.
void BinnedMatrix::to_bytes(const FeatureTile& tile, int64_t n, uint8_t* bins) const {
  for (int32_t b = 0; b < tile.n_bundles; ++b) {
    const Bundle bundle = bundles_[tile.first_bundle + b];
    const uint8_t* const of_bundle =
        bins + (bundle.first_feature - tile.first_feature) * kScratchColumn;
    uint8_t* const to = bins + b * kScratchColumn;
    if (!bundle.is_shared()) {
      std::memmove(to, of_bundle, n);
      to_places(bundle.first_feature, n, to);
      continue;
    }
    uint8_t codes[kScratchColumn] = {};
    int32_t weight = 1;
    for (int32_t i = 0; i < bundle.n_features; ++i) {
      const int32_t f = bundle.first_feature + i;
      add_digit(of_bundle + i * kScratchColumn, n, uint8_t(n_value_bins(f)), uint8_t(weight),
                codes);
      weight *= n_positions(f);
    }
    std::memcpy(to, codes, n);
  }
  std::memset(bins + tile.n_bundles * kScratchColumn, 0,
              (tile.stride - tile.n_bundles) * kScratchColumn);
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
}

void BinnedMatrix::count_updates() {
  double updates = 0;
  int64_t n_features = 0;
  for (const FeatureTile& tile : tiles_) {
    n_features += tile.n_features;
    if (!tile.is_sparse()) {
      updates += tile.n_bundles;
      continue;
    }
    const double entries_per_row =
        double(tile.row_begin[n_samples_]) / double(std::max<int64_t>(n_samples_, 1));
    updates += std::min(double(tile.n_features), entries_per_row + kSparseRowUpdates);
  }
  if (n_features > 0) updates_per_feature_ = updates / double(n_features);
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
