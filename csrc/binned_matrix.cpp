#include "binned_matrix.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>

#include "support/check.h"

namespace qgbdt {
namespace {

constexpr int64_t kRowsPerTask = 2048;
constexpr int kCacheLine = 64;

int32_t tile_stride(int32_t n_features) {
  if (n_features > 16) return n_features <= 24 ? 24 : 32;
  return int32_t(std::bit_ceil(uint32_t(std::max(n_features, 4))));
}

}  // namespace

BinnedMatrix::BinnedMatrix(const MatrixView& X, int max_bin, const BinKernels& kernels, Team& team)
    : n_samples_(X.n_samples),
      thresholds_(find_bin_thresholds(X, max_bin, team)),
      has_missing_(X.n_features, 0),
      cell_offsets_(X.n_features + 1, 0) {
  check(2 <= max_bin && max_bin <= kMaxValueBins, "max_bin must be in [2, 255]");
  check(X.n_samples >= 1 && X.n_samples <= INT32_MAX, "n_samples must be in [1, 2^31 - 1]");
  check(X.n_features >= 1 && X.n_features <= INT32_MAX / kBinSlots, "too many features");
  lay_out_tiles();
  assign_bins(X, kernels, team);
  for (int32_t f = 0; f < n_features(); ++f) cell_offsets_[f + 1] = cell_offsets_[f] + n_bins(f);
}

void BinnedMatrix::lay_out_tiles() {
  int64_t bytes = 0;
  std::vector<int64_t> offsets;
  for (int32_t f = 0; f < n_features(); f += kTileFeatures) {
    const int32_t width = std::min(kTileFeatures, n_features() - f);
    tiles_.push_back({f, width, tile_stride(width), nullptr});
    offsets.push_back(bytes);
    bytes += (tiles_.back().stride * n_samples_ + kCacheLine - 1) / kCacheLine * kCacheLine;
  }
  tile_storage_ = Buffer<uint8_t>(bytes);
  columns_ = Buffer<uint8_t>(n_samples_ * n_features());
  for (size_t i = 0; i < tiles_.size(); ++i) tiles_[i].bins = tile_storage_.data() + offsets[i];
}

void BinnedMatrix::assign_bins(const MatrixView& X, const BinKernels& kernels, Team& team) {
  const int64_t blocks = (n_samples_ + kRowsPerTask - 1) / kRowsPerTask;
  const int threads = team.threads_for(n_samples_ * X.n_features, kValuesPerThread);
  std::vector<std::atomic<uint8_t>> missing(n_features());
  visit_elements(X, [&]<class T>(const T* data) {
    std::vector<BinTable<T>> tables;
    for (const auto& thresholds : thresholds_) tables.push_back(bin_table<T>(thresholds));
    const BinColumn<T> bin_column = kernel_for(kernels, data);
    team.run(threads, blocks * int64_t(tiles_.size()), [&](int64_t task, int) {
      const FeatureTile& tile = tiles_[task / blocks];
      uint8_t* out = const_cast<uint8_t*>(tile.bins);
      const int64_t begin = task % blocks * kRowsPerTask;
      const int64_t end = std::min(n_samples_, begin + kRowsPerTask);
      if (tile.n_features < tile.stride)
        std::memset(out + begin * tile.stride, 0, (end - begin) * tile.stride);
      for (int32_t i = 0; i < tile.n_features; ++i) {
        const int32_t f = tile.first_feature + i;
        uint8_t* column = columns_.data() + f * n_samples_;
        const T* x = data + begin * X.row_stride + f * X.column_stride;
        if (bin_column(tables[f], x, X.row_stride, end - begin, uint8_t(n_value_bins(f)),
                       column + begin))
          missing[f].store(1, std::memory_order_relaxed);
        for (int64_t row = begin; row < end; ++row) out[row * tile.stride + i] = column[row];
      }
    });
  });
  for (int32_t f = 0; f < n_features(); ++f) has_missing_[f] = missing[f];
}

}  // namespace qgbdt
