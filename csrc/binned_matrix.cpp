#include "binned_matrix.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
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

// 16 bytes: every x86-64 and ARM has such vectors (an extension of GCC and Clang).
template <class T>
struct Vector16;
template <>
struct Vector16<float> {
  typedef float type __attribute__((vector_size(16)));
};
template <>
struct Vector16<double> {
  typedef double type __attribute__((vector_size(16)));
};

// How many thresholds lie below a value, without a branch: count among the last thresholds of 16
// blocks of 16, then within the block that this names. Both counts are a few vector compares.
// Unused places hold infinity: nothing is above it, and NaN is above nothing. For float32 data each
// threshold becomes the largest float32 not above it, which compares alike.
template <class T>
class BinSearch {
 public:
  explicit BinSearch(const std::vector<double>& thresholds) {
    std::fill(thresholds_, thresholds_ + kBinSlots, T(HUGE_VAL));
    std::transform(thresholds.begin(), thresholds.end(), thresholds_, round_down);
    for (int block = 0; block < kBlocks; ++block)
      last_[block] = thresholds_[block * kBlocks + kBlocks - 1];
  }

  uint8_t operator()(T x) const {
    const int block = count_below(last_, x);
    return uint8_t(block * kBlocks + count_below(thresholds_ + block * kBlocks, x));
  }

 private:
  static constexpr int kBlocks = 16;
  static_assert(kBlocks * kBlocks == kBinSlots && kMaxValueBins <= kBinSlots);

  using Vector = typename Vector16<T>::type;
  static constexpr int kLanes = 16 / sizeof(T);

  static int count_below(const T* thresholds, T x) {
    const Vector xs = x - Vector{};
    auto n = xs > xs;  // zeros
    for (int i = 0; i < kBlocks; i += kLanes) {
      Vector t;
      __builtin_memcpy(&t, thresholds + i, sizeof t);
      n -= xs > t;  // true is -1
    }
    int sum = 0;
    for (int i = 0; i < kLanes; ++i) sum += int(n[i]);
    return sum;
  }

  static T round_down(double t) {
    const T f = T(t);
    return double(f) > t ? std::nextafter(f, T(-HUGE_VAL)) : f;
  }

  T last_[kBlocks];
  T thresholds_[kBinSlots];
};

// Bins rows [begin, end) of one feature; returns whether a value was missing.
template <class T>
bool bin_column(const T* data, const MatrixView& X, int32_t feature, const BinSearch<T>& search,
                uint8_t missing_bin, int64_t begin, int64_t end, uint8_t* bins) {
  const T* column = data + begin * X.row_stride + feature * X.column_stride;
  bool missing = false;
  for (int64_t i = 0; i < end - begin; ++i) {
    const T x = column[i * X.row_stride];
    const bool is_missing = x != x;
    missing |= is_missing;
    bins[i] = is_missing ? missing_bin : search(x);
  }
  return missing;
}

}  // namespace

BinnedMatrix::BinnedMatrix(const MatrixView& X, int max_bin, Team& team)
    : n_samples_(X.n_samples),
      thresholds_(find_bin_thresholds(X, max_bin, team)),
      has_missing_(X.n_features, 0),
      cell_offsets_(X.n_features + 1, 0) {
  check(2 <= max_bin && max_bin <= kMaxValueBins, "max_bin must be in [2, 255]");
  check(X.n_samples >= 1 && X.n_samples <= INT32_MAX, "n_samples must be in [1, 2^31 - 1]");
  check(X.n_features >= 1 && X.n_features <= INT32_MAX / kBinSlots, "too many features");
  lay_out_tiles();
  assign_bins(X, team);
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

void BinnedMatrix::assign_bins(const MatrixView& X, Team& team) {
  const int64_t blocks = (n_samples_ + kRowsPerTask - 1) / kRowsPerTask;
  const int threads = team.threads_for(n_samples_ * X.n_features, kValuesPerThread);
  std::vector<std::atomic<uint8_t>> missing(n_features());
  visit_elements(X, [&]<class T>(const T* data) {
    std::vector<BinSearch<T>> searches(thresholds_.begin(), thresholds_.end());
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
        if (bin_column(data, X, f, searches[f], uint8_t(n_value_bins(f)), begin, end,
                       column + begin))
          missing[f].store(1, std::memory_order_relaxed);
        for (int64_t row = begin; row < end; ++row) out[row * tile.stride + i] = column[row];
      }
    });
  });
  for (int32_t f = 0; f < n_features(); ++f) has_missing_[f] = missing[f];
}

}  // namespace qgbdt
