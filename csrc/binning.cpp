#include "binning.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <numeric>
#include <type_traits>

#include "support/buffer.h"
#include "support/rng.h"

namespace qgbdt {
namespace {

constexpr int64_t kFeaturesPerTask = 8;  // neighbours in a C-ordered row share a cache line

// Unsigned integers in the order of the floats: negative ones have all their bits flipped.
template <class T>
using Key = std::conditional_t<std::is_same_v<T, float>, uint32_t, uint64_t>;

template <class T>
Key<T> float_key(T x) {
  constexpr Key<T> sign = Key<T>(1) << (8 * sizeof(T) - 1);
  const auto bits = __builtin_bit_cast(Key<T>, x + T(0));  // -0.0 + 0.0 is +0.0
  return bits & sign ? ~bits : bits | sign;
}

template <class T>
T key_float(Key<T> key) {
  constexpr Key<T> sign = Key<T>(1) << (8 * sizeof(T) - 1);
  return __builtin_bit_cast(T, key & sign ? key & ~sign : ~key);
}

// Least significant digit first; a digit that all keys share costs no pass.
template <class K>
void radix_sort(K* keys, K* scratch, int64_t n) {
  constexpr int kDigitBits = 11;
  constexpr int64_t kRadix = 1 << kDigitBits;
  if (n < 2 * kRadix) return std::sort(keys, keys + n);
  K* const result = keys;
  std::vector<int64_t> start(kRadix);
  for (int shift = 0; shift < int(8 * sizeof(K)); shift += kDigitBits) {
    const auto digit = [&](K key) { return (key >> shift) & (kRadix - 1); };
    std::fill(start.begin(), start.end(), 0);
    for (int64_t i = 0; i < n; ++i) ++start[digit(keys[i])];
    if (start[digit(keys[0])] == n) continue;
    std::exclusive_scan(start.begin(), start.end(), start.begin(), int64_t(0));
    for (int64_t i = 0; i < n; ++i) scratch[start[digit(keys[i])]++] = keys[i];
    std::swap(keys, scratch);
  }
  if (keys != result) std::copy(keys, keys + n, result);
}

template <class T>
std::vector<double> thresholds_of(const Key<T>* sorted, int64_t n, int max_bin) {
  std::vector<int64_t> first, counts;  // of each distinct value
  for (int64_t i = 0; i < n; ++i)
    if (i == 0 || sorted[i] != sorted[i - 1]) first.push_back(i);
  for (size_t v = 0; v < first.size(); ++v)
    counts.push_back((v + 1 < first.size() ? first[v + 1] : n) - first[v]);
  const auto value = [&](int64_t v) { return double(key_float<T>(sorted[first[v]])); };
  std::vector<double> thresholds;
  for (int64_t v : equal_frequency_bounds(counts, max_bin))
    thresholds.push_back(threshold_between(value(v), value(v + 1)));
  return thresholds;
}

template <class T>
void find_task(const T* data, const MatrixView& X, const std::vector<uint32_t>& sample, int max_bin,
               int64_t first, int64_t last, std::vector<std::vector<double>>& out) {
  const int64_t n = int64_t(sample.size());
  Buffer<Key<T>> keys((last - first) * n), scratch(n);
  std::vector<int64_t> count(last - first);
  for (uint32_t row : sample) {
    const T* x = data + row * X.row_stride + first * X.column_stride;
    for (int64_t i = 0; i < last - first; ++i, x += X.column_stride) {
      keys.data()[i * n + count[i]] = float_key(*x);
      count[i] += *x == *x;  // the next key overwrites a missing one
    }
  }
  for (int64_t i = 0; i < last - first; ++i) {
    radix_sort(keys.data() + i * n, scratch.data(), count[i]);
    out[first + i] = thresholds_of<T>(keys.data() + i * n, count[i], max_bin);
  }
}

// For float32 data each threshold becomes the largest float32 not above it, which compares alike.
template <class T>
T round_down(double t) {
  const T f = T(t);
  return double(f) > t ? std::nextafter(f, T(-HUGE_VAL)) : f;
}

}  // namespace

std::vector<uint32_t> binning_sample(int64_t n_samples) {
  std::vector<uint32_t> rows;
  const uint64_t key = stream_key(0, UINT64_MAX, 0);  // apart from every tree's rounding
  const uint64_t limit =
      (uint64_t(kBinningSample) << 32) / uint64_t(std::max<int64_t>(n_samples, 1));
  for (int64_t row = 0; row < n_samples; ++row)
    if (n_samples <= kBinningSample || row_hash(key, uint64_t(row)) < limit)
      rows.push_back(uint32_t(row));
  return rows;
}

double threshold_between(double a, double b) {
  if (b == HUGE_VAL) return a == -HUGE_VAL ? 0.0 : DBL_MAX;
  const double middle = 0.5 * a + 0.5 * b;
  return a <= middle && middle < b ? middle : a;
}

// A bin ends when it holds its fair share of the light rows that were left when it began, when its
// value is heavy (a fair share alone), or half filled before a heavy value. Integers only.
std::vector<int64_t> equal_frequency_bounds(const std::vector<int64_t>& counts, int max_bin) {
  const int64_t n_values = int64_t(counts.size());
  std::vector<int64_t> bounds;
  if (n_values <= max_bin) {
    for (int64_t i = 0; i + 1 < n_values; ++i) bounds.push_back(i);
    return bounds;
  }
  const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t(0));
  const auto heavy = [&](int64_t i) { return counts[i] * max_bin >= total; };
  int64_t remaining = 0, bins_left = max_bin, open = 0;
  for (int64_t i = 0; i < n_values; ++i) {
    if (heavy(i)) --bins_left;
    else remaining += counts[i];
  }
  for (int64_t i = 0; i + 1 < n_values && int64_t(bounds.size()) < max_bin - 1; ++i) {
    if (!heavy(i)) open += counts[i];
    const int64_t share = std::max<int64_t>(bins_left, 1);
    const bool full =
        open > 0 && (open * share >= remaining || (heavy(i + 1) && 2 * open * share >= remaining));
    if (!heavy(i) && !full) continue;
    bounds.push_back(i);
    remaining -= open;
    if (!heavy(i)) --bins_left;
    open = 0;
  }
  return bounds;
}

template <class T>
BinTable<T> bin_table(const std::vector<double>& thresholds) {
  BinTable<T> table;
  std::fill(table.thresholds, table.thresholds + kBinSlots, T(HUGE_VAL));
  std::transform(thresholds.begin(), thresholds.end(), table.thresholds, round_down<T>);
  for (int block = 0; block < kBinBlocks; ++block)
    table.last[block] = table.thresholds[block * kBinBlocks + kBinBlocks - 1];
  return table;
}
template BinTable<float> bin_table(const std::vector<double>&);
template BinTable<double> bin_table(const std::vector<double>&);

std::vector<std::vector<double>> find_bin_thresholds(const MatrixView& X, int max_bin, Team& team) {
  const std::vector<uint32_t> sample = binning_sample(X.n_samples);
  std::vector<std::vector<double>> thresholds(X.n_features);
  const int threads = team.threads_for(int64_t(sample.size()) * X.n_features, kValuesPerThread);
  team.run_blocks(threads, X.n_features, kFeaturesPerTask, [&](int64_t first, int64_t last, int) {
    visit_elements(
        X, [&](const auto* data) { find_task(data, X, sample, max_bin, first, last, thresholds); });
  });
  return thresholds;
}

}  // namespace qgbdt
