// The training data as bin numbers, one byte a value, in the two layouts that the kernels read.
// Histograms add whole rows: tiles of at most 32 bytes; within a tile, row after row.
//
//   tile 0: row 0 [f0 f1 ... f31] row 1 [f0 f1 ... f31] ...      stride 32 bytes
//   tile 1: row 0 [f32 f33 0 0] row 1 [f32 f33 0 0] ...           stride 4 bytes
//
// A row of a tile never straddles a cache line: strides are 4, 8, 16 and 32. (24 saves a quarter; a
// fit whose tiles all had it took 1.4 times as long as with 32.) The packed histogram of a tile (32
// x 256 x 4 bytes) fits a 32 kB L1 cache; tiles of 64 features are as fast, tiles of 16 slower by
// 15 %.
//
// Its bytes are places: where in the feature's histogram the value counts (bin_order.h).
//
// Neighbours of few bins share a byte (bundle.h), so that a tile may have up to 128 features.
//
// Where most values are the same (missing, zero), a tile is sparse instead: each row lists its
// other values only, and what a node's rows have in a feature's default place is their total less
// the rest.
//
//   row_begin [0 2 2 3 ...]   row 0 has two entries, row 1 none
//   entries   [f0 p0|f1 p1|f7 p2 ...]  2 bytes: which of the tile's cells in a histogram
//
// To find a row's entries costs as much as adding several: sparse tiles, too, have up to 128
// features, whose packed histogram fits an L2 cache.
//
// Of a sparse matrix, features that list next to nothing are in no tile and have no place in a
// histogram: their listed values are all there is, column by column, and what they cost follows
// from these. (Where several workers share their histograms, there are none of these.)
//
//   rows [3 17 40 ...]   bins [5 1 2 ...]   any other row is in the bin of 0, or missing
//
// Partition looks at one feature of many rows: columns of bins, feature after feature. Reading a
// column's bytes from the tiles instead touches a cache line a row: partition was 26 % of a fit's
// samples that way and 14 to 17 % from columns (perf, 1.1 million rows x 28, a busy machine).
#pragma once

#include <stdint.h>

#include <span>
#include <vector>

#include "bin_order.h"
#include "bundle.h"
#include "column_bins.h"
#include "comm.h"
#include "global_rows.h"
#include "support/buffer.h"
#include "types.h"

namespace qgbdt {

constexpr int kTileBytes = 32;
constexpr int kMaxTileFeatures = 128;

using FeatureMask = std::vector<uint8_t>;  // [n_features], 1 if in it; empty: all are

struct FeatureTile {
  int32_t first_feature = 0;
  int32_t n_features = 0;
  int32_t first_bundle = 0;  // of a dense tile
  int32_t n_bundles = 0;
  int32_t stride = 0;  // bytes per row, 0 if sparse
  const uint8_t* bins = nullptr;
  const uint32_t* row_begin = nullptr;  // [n_samples + 1] of a sparse tile, else null
  const uint16_t* entries = nullptr;

  bool is_sparse() const { return row_begin != nullptr; }
};

struct ListedColumn {
  const uint32_t* rows;  // ascending
  const uint8_t* bins;
  int64_t n;
  uint8_t default_bin;  // of the rows that are not listed
};

class BinnedMatrix {
 public:
  // Of this worker's rows. Columns that are borrowed outlive the matrix.
  BinnedMatrix(DenseBins columns, GlobalRows rows, Binning binning, Comm& comm, Team& team);
  // may_list: whether features that list next to nothing may stay lists. The columns are read
  // during the call only.
  BinnedMatrix(const SparseBins& columns, GlobalRows rows, Binning binning, bool may_list,
               Comm& comm, Team& team);

  int64_t n_samples() const { return n_samples_; }
  const GlobalRows& rows() const { return rows_; }
  int32_t n_features() const { return binning_.n_features(); }
  const std::vector<FeatureTile>& tiles() const { return tiles_; }
  const std::vector<double>& thresholds(int32_t feature) const {
    return binning_.thresholds[feature];
  }
  bool has_missing(int32_t feature) const { return has_missing_[feature]; }  // on any worker
  bool is_categorical(int32_t feature) const { return binning_.is_categorical[feature]; }
  bool has_categories() const { return has_categories_; }
  int32_t n_value_bins(int32_t feature) const { return binning_.n_value_bins(feature); }
  int32_t n_positions(int32_t feature) const { return n_value_bins(feature) + 1; }
  BinOrder bin_order(int32_t feature) const { return bin_orders_[feature]; }
  // Where the cells of a feature begin in a node's histogram; cell_offset(n_features) is its size.
  int64_t cell_offset(int32_t feature) const { return cell_offsets_[feature]; }
  int64_t n_cells() const { return cell_offsets_.back(); }

  bool has_sparse_tiles() const { return !sparse_.empty(); }
  // The place whose values a sparse tile leaves out.
  uint8_t default_place(int32_t feature) const { return default_places_[feature]; }

  const std::vector<Bundle>& bundles() const { return bundles_; }
  int32_t bundle_of(int32_t feature) const { return bundle_of_[feature]; }  // in a dense tile
  // What of a tile holds the features that are in the range, which are some.
  FeatureTile part_of(FeatureTile tile, FeatureRange range) const;

  // What the rows take, in either layout.
  int64_t n_bytes() const;

  // What adding a row costs, in updates a feature: 1, or less where tiles are sparse or bytes
  // shared.
  double updates_per_feature() const { return updates_per_feature_; }

  // Those that are listed; the others are in tiles and have a column.
  const std::vector<int32_t>& listed_features() const { return listed_features_; }
  int64_t n_listed() const { return listed_rows_.size(); }  // rows of all of them
  bool is_listed(int32_t feature) const { return stored_[feature].is_listed; }
  ListedColumn listed_column(int32_t feature) const {
    const StoredColumn& c = stored_[feature];
    return {listed_rows_.data() + c.begin, listed_bins_.data() + c.begin, c.n_listed,
            c.default_bin};
  }
  const uint8_t* column(int32_t feature) const { return columns_ + stored_[feature].begin; }

  // The bins of all rows, whichever way they are stored.
  void copy_column(int32_t feature, uint8_t* bins) const;

 private:
  struct StoredColumn {
    bool is_listed = false;
    uint8_t default_bin = 0;
    int64_t begin = 0, n_listed = 0;
  };
  struct SparseTile {
    Buffer<uint32_t> row_begin;
    Buffer<uint16_t> entries;
  };

  BinnedMatrix(int64_t n_samples, GlobalRows rows, Binning binning,
               std::vector<uint8_t> has_missing, Comm& comm);
  std::vector<double> find_default_places(const DenseBins& columns);
  std::vector<double> find_default_places(const SparseBins& columns);
  std::vector<Bundle> bundle(FeatureRange features) const;
  bool fits_tile(int64_t width) const {  // row_begin counts entries in 32 bits
    return width <= kMaxTileFeatures && n_samples_ * width <= UINT32_MAX;
  }
  void add_tile(FeatureRange features, std::span<const Bundle> bundles);
  void lay_out(const std::vector<double>& default_shares, bool may_list);
  void scatter(const SparseBins& columns, Team& team);
  void fill_tiles(Team& team);
  void to_places(int32_t feature, int64_t n, uint8_t* bins) const;
  void to_bytes(const FeatureTile& tile, int64_t n, uint8_t* bins) const;
  void join_sparse_tiles(std::vector<std::vector<uint16_t>>& entries, Team& team);
  void count_updates();

  int64_t n_samples_;
  GlobalRows rows_;
  Binning binning_;
  std::vector<uint8_t> has_missing_;
  bool has_categories_;
  std::vector<int64_t> cell_offsets_;
  std::vector<BinOrder> bin_orders_;
  std::vector<uint8_t> default_places_;
  std::vector<FeatureTile> tiles_;
  std::vector<Bundle> bundles_;
  std::vector<int32_t> bundle_of_;
  std::vector<SparseTile> sparse_;
  double updates_per_feature_ = 1;
  Buffer<uint8_t> tile_storage_;
  const uint8_t* columns_ = nullptr;  // of the features that are not listed
  Buffer<uint8_t> column_storage_;    // theirs, or none: they are borrowed
  std::vector<StoredColumn> stored_;
  std::vector<int32_t> listed_features_;
  Buffer<uint32_t> listed_rows_;
  Buffer<uint8_t> listed_bins_;
};

}  // namespace qgbdt
