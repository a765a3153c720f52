#include "column_bins.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <type_traits>

#include "support/check.h"

namespace qgbdt {
namespace {

constexpr int64_t kRowsPerTask = 2048;
constexpr int32_t kFeaturesTogether = 32;  // of a row of X: they share cache lines
constexpr int64_t kColumnBytes = 512;      // of X that are a column at a time: 32 stay in L1
constexpr int64_t kFeaturesPerTask = 64;   // of a sparse matrix
constexpr const char* kNoBin = "the bins are damaged: one is beyond those of its feature";

template <class T>
constexpr int64_t kBlockRows = kColumnBytes / int64_t(sizeof(T));

// A block of X as columns, kBlockRows apart.
template <class T>
void copy_columns(const MatrixView& X, const T* x, int64_t n, int32_t width, T* columns) {
  for (int64_t row = 0; row < n; ++row)
    for (int32_t i = 0; i < width; ++i)
      columns[i * kBlockRows<T> + row] = x[row * X.row_stride + i * X.column_stride];
}

template <class T>
void bin_columns(const MatrixView& X, const T* data, const Binning& binning,
                 BinColumn<T> bin_column, Team& team, DenseBins* out) {
  const int32_t n_features = binning.n_features();
  std::vector<BinTable<T>> tables;
  for (const auto& thresholds : binning.thresholds) tables.push_back(bin_table<T>(thresholds));
  std::vector<std::atomic<uint8_t>> missing(n_features);
  const int64_t n_groups = (n_features + kFeaturesTogether - 1) / kFeaturesTogether;
  const int64_t n_tasks =  // neighbours in a row of X follow one another
      (X.n_samples + kRowsPerTask - 1) / kRowsPerTask * n_groups;
  team.run(team.threads_for(X.n_samples * n_features, kValuesPerThread), n_tasks,
           [&](int64_t task, int) {
             const int32_t first = int32_t(task % n_groups) * kFeaturesTogether;
             const int32_t width = std::min(kFeaturesTogether, n_features - first);
             const int64_t end = std::min(X.n_samples, (task / n_groups + 1) * kRowsPerTask);
             T copy[kFeaturesTogether * kBlockRows<T>];
             for (int64_t begin = task / n_groups * kRowsPerTask; begin < end;
                  begin += kBlockRows<T>) {
               const int64_t n = std::min(kBlockRows<T>, end - begin);
               const T* x = data + begin * X.row_stride + first * X.column_stride;
               const bool has_columns = X.row_stride == 1;
               if (!has_columns) copy_columns(X, x, n, width, copy);
               for (int32_t i = 0; i < width; ++i) {
                 const int32_t f = first + i;
                 const T* values = has_columns ? x + i * X.column_stride : copy + i * kBlockRows<T>;
                 if (bin_column(tables[f], values, n, binning.missing_bin(f),
                                out->memory.data() + f * X.n_samples + begin))
                   missing[f].store(1, std::memory_order_relaxed);
               }
             }
           });
  out->has_missing.assign(missing.begin(), missing.end());
}

// Whether any of them is the missing bin, which is the largest.
uint8_t has_missing(const uint8_t* bins, int64_t n, uint8_t missing_bin) {
  uint8_t largest = 0;
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, bins[i]);
  check(largest <= missing_bin, kNoBin);
  return largest == missing_bin;
}

}  // namespace

void check_binning(const Binning& binning) {
  check(binning.thresholds.size() == binning.is_categorical.size(), "one kind a feature");
  check(binning.n_features() >= 1 && binning.n_features() <= INT32_MAX / kBinPlaces,
        "too many features");
  for (const std::vector<double>& thresholds : binning.thresholds) {
    check(thresholds.size() < size_t(kMaxValueBins), "a feature has at most 255 bins");
    for (size_t i = 0; i < thresholds.size(); ++i)  // the first may be minus infinity
      check(thresholds[i] < HUGE_VAL && (i == 0 || thresholds[i - 1] < thresholds[i]),
            "thresholds must be finite and ascend");
  }
}

template <class View>
Binning find_binning(const View& X, const GlobalRows& rows, int max_bin,
                     const std::vector<int32_t>& n_categories, Comm& comm, Team& team) {
  check(2 <= max_bin && max_bin <= kMaxValueBins, "max_bin must be in [2, 255]");
  check(rows.n_samples() == X.n_samples, "blocks of rows must sum to n_samples");
  check(n_categories.empty() || int64_t(n_categories.size()) == X.n_features,
        "n_categories must have an entry for each feature");
  for (int32_t n : n_categories)
    check(kNotCategorical <= n && n <= max_bin, "n_categories must be in [-1, max_bin]");
  check(n_categories.empty() || std::is_same_v<View, MatrixView>, "categories need dense data");
  check(X.n_features >= 1 && X.n_features <= INT32_MAX / kBinPlaces, "too many features");
  Binning binning{find_bin_thresholds(X, rows, max_bin, comm, team),
                  std::vector<uint8_t>(X.n_features, 0)};
  for (int32_t f = 0; f < int32_t(n_categories.size()); ++f) {
    if (n_categories[f] == kNotCategorical) continue;
    binning.thresholds[f] = code_thresholds(n_categories[f]);
    binning.is_categorical[f] = true;
  }
  return binning;
}
template Binning find_binning(const MatrixView&, const GlobalRows&, int,
                              const std::vector<int32_t>&, Comm&, Team&);
template Binning find_binning(const SparseView&, const GlobalRows&, int,
                              const std::vector<int32_t>&, Comm&, Team&);

DenseBins bin_columns(const MatrixView& X, const Binning& binning, const BinKernels& kernels,
                      Team& team) {
  DenseBins out{X.n_samples, {}, nullptr, Buffer<uint8_t>(X.n_samples * X.n_features)};
  out.bins = out.memory.data();
  visit_elements(X, [&](const auto* data) {
    bin_columns(X, data, binning, kernel_for(kernels, data), team, &out);
  });
  return out;
}

SparseBins bin_columns(const SparseView& X, const Binning& binning, const BinKernels& kernels,
                       Team& team) {
  const int64_t n_listed = X.column_begin[X.n_features];
  SparseBins out{
      X.n_samples,          std::vector<uint8_t>(X.n_features), nullptr, X.rows, X.column_begin,
      X.others_are_missing, Buffer<uint8_t>(n_listed)};
  out.bins = out.memory.data();
  visit_elements(X, [&]<class T>(const T* data) {
    team.run_blocks(team.threads_for(n_listed, kValuesPerThread), X.n_features, kFeaturesPerTask,
                    [&](int64_t first, int64_t last, int) {
                      for (int32_t f = int32_t(first); f < last; ++f) {
                        const int64_t begin = X.column_begin[f];
                        const int64_t n = X.column_begin[f + 1] - begin;
                        const bool lists_missing = kernel_for(kernels, data)(
                            bin_table<T>(binning.thresholds[f]), data + begin, n,
                            binning.missing_bin(f), out.memory.data() + begin);
                        out.has_missing[f] =
                            lists_missing || (X.others_are_missing && n < X.n_samples);
                      }
                    });
  });
  return out;
}

DenseBins kept_columns(const uint8_t* bins, int64_t n_samples, const Binning& binning, Team& team) {
  const int32_t n_features = binning.n_features();
  DenseBins out{n_samples, std::vector<uint8_t>(n_features), bins};
  team.run(team.threads_for(n_samples * n_features, kValuesPerThread), n_features,
           [&](int64_t f, int) {
             out.has_missing[f] =
                 has_missing(bins + f * n_samples, n_samples, binning.missing_bin(int32_t(f)));
           });
  return out;
}

DenseBins kept_columns(const uint8_t* bins, int64_t n_samples, std::span<const int64_t> rows,
                       const Binning& binning, Team& team) {
  for (int64_t row : rows) check(0 <= row && row < n_samples, "a row is beyond those of the bins");
  const int32_t n_features = binning.n_features();
  const int64_t n = int64_t(rows.size());
  DenseBins out{n, std::vector<uint8_t>(n_features), nullptr, Buffer<uint8_t>(n * n_features)};
  out.bins = out.memory.data();
  std::vector<std::atomic<uint8_t>> missing(n_features);
  team.run_blocks(team.threads_for(n * n_features, kValuesPerThread), n, kRowsPerTask,
                  [&](int64_t begin, int64_t end, int) {
                    for (int32_t f = 0; f < n_features; ++f) {
                      const uint8_t* const from = bins + f * n_samples;
                      uint8_t* const to = out.memory.data() + f * n;
                      for (int64_t i = begin; i < end; ++i) to[i] = from[rows[i]];
                      if (has_missing(to + begin, end - begin, binning.missing_bin(f)))
                        missing[f].store(1, std::memory_order_relaxed);
                    }
                  });
  out.has_missing.assign(missing.begin(), missing.end());
  return out;
}

SparseBins kept_columns(SparseBins columns, const Binning& binning) {
  columns.has_missing.resize(binning.n_features());
  for (int32_t f = 0; f < binning.n_features(); ++f) {
    const int64_t begin = columns.column_begin[f], n = columns.column_begin[f + 1] - begin;
    const bool lists_missing = has_missing(columns.bins + begin, n, binning.missing_bin(f));
    columns.has_missing[f] = lists_missing || (columns.others_are_missing && n < columns.n_samples);
  }
  return columns;
}

}  // namespace qgbdt
