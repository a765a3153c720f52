#include "binning.h"

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>
#include <numeric>
#include <type_traits>
#include <utility>

#include "support/buffer.h"
#include "support/check.h"
#include "support/rng.h"

namespace qgbdt {
namespace {

constexpr int64_t kPrefetchRows = 16;  // halves the time of the gather from DRAM; not tuned further
constexpr int64_t kFeaturesPerTask = 8;  // neighbours in a C-ordered row share a cache line

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

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

template <class K>
void sort_keys(K* keys, K* scratch, int64_t n);

// Sorts by kDigits digits, least significant first, that begin at the highest bit in which keys
// differ; then the few runs of keys that agree in all of them.
template <int kDigits, int kDigitBits, class K>
void radix_sort(K* keys, K* scratch, int64_t n) {
  constexpr int64_t kRadix = 1 << kDigitBits;
  K differing = 0;
  for (int64_t i = 0; i < n; ++i) differing |= keys[i] ^ keys[0];
  const int lowest = std::max(0, int(std::bit_width(differing)) - kDigits * kDigitBits);
  const auto digit = [lowest](K key, int d) {
    return key >> (lowest + d * kDigitBits) & (kRadix - 1);
  };

  uint32_t counts[kDigits][kRadix] = {};
  for (int64_t i = 0; i < n; ++i)
    for (int d = 0; d < kDigits; ++d) ++counts[d][digit(keys[i], d)];
  K* from = keys;
  K* to = scratch;
  for (int d = 0; d < kDigits; ++d) {
    uint32_t* next = counts[d];
    if (next[digit(keys[0], d)] == n) continue;  // they all share this digit
    std::exclusive_scan(next, next + kRadix, next, 0u);
    for (int64_t i = 0; i < n; ++i) to[next[digit(from[i], d)]++] = from[i];
    std::swap(from, to);
  }
  if (from != keys) std::copy(from, from + n, keys);

  if (lowest == 0) return;
  for (int64_t begin = 0, end; begin < n; begin = end) {
    for (end = begin + 1; end < n && (keys[end] ^ keys[begin]) >> lowest == 0;) ++end;
    if (end - begin > 1) sort_keys(keys + begin, scratch, end - begin);
  }
}

// Counters to be cleared and summed should be few beside the keys; the limits are rough.
template <class K>
void sort_keys(K* keys, K* scratch, int64_t n) {
  if (n < 128) std::sort(keys, keys + n);
  else if (n < 16384) radix_sort<4, 8>(keys, scratch, n);
  else radix_sort<3, 11>(keys, scratch, n);
}

// The sorted keys of a column, of which the zeros that were not listed are only counted.
template <class K>
struct SortedKeys {
  const K* keys;
  K zero;
  int64_t first_zero, n_zeros, n;

  K operator[](int64_t i) const {
    if (i < first_zero) return keys[i];
    return i < first_zero + n_zeros ? zero : keys[i - n_zeros];
  }

  // The first of [from, to) that is not below the key, or, if `above`, the first above it.
  int64_t find(int64_t from, int64_t to, K key, bool above) const {
    while (from < to) {
      const int64_t middle = from + (to - from) / 2;
      const K here = (*this)[middle];
      if (here < key || (above && here == key)) from = middle + 1;
      else to = middle;
    }
    return from;
  }
};

struct Run {  // of equal keys: one value
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

// The run that position i is part of. Most are short: look next door first, then ever further.
template <class K>
int64_t run_begin(const SortedKeys<K>& sorted, int64_t i) {
  int64_t step = 1;
  while (i - step >= 0 && sorted[i - step] == sorted[i]) step *= 2;
  return sorted.find(std::max<int64_t>(i - step, 0), i - step / 2, sorted[i], false);
}

template <class K>
int64_t run_end(const SortedKeys<K>& sorted, int64_t i) {
  int64_t step = 1;
  while (i + step < sorted.n && sorted[i + step] == sorted[i]) step *= 2;
  return sorted.find(i + step / 2, std::min(i + step, sorted.n), sorted[i], true);
}

// Where each value ends, if there are at most max_values; else more than that many ends.
template <class K>
std::vector<int64_t> value_ends(const SortedKeys<K>& sorted, int64_t max_values) {
  std::vector<int64_t> ends;
  for (int64_t end = 0; end < sorted.n && int64_t(ends.size()) <= max_values; ends.push_back(end))
    end = run_end(sorted, end);
  return ends;
}

// Heavy values would fill a bin alone, so they are among n / heavy_size evenly spaced keys.
template <class K>
std::vector<Run> heavy_values(const SortedKeys<K>& sorted, int64_t heavy_size) {
  std::vector<Run> heavy;
  for (int64_t i = 0; i < sorted.n;) {
    const Run run{run_begin(sorted, i), run_end(sorted, i)};
    if (run.size() >= heavy_size) heavy.push_back(run);
    i = divide_up(run.end, heavy_size) * heavy_size;
  }
  return heavy;
}

// A bin ends when it holds its fair share of the light rows that were left when it began, when its
// value is heavy (a fair share alone), or half filled before a heavy value. Integers only.
template <class K>
std::vector<int64_t> equal_frequency_ends(const SortedKeys<K>& sorted, int max_bin) {
  const int64_t n = sorted.n;
  std::vector<Run> heavy = heavy_values(sorted, divide_up(n, max_bin));
  int64_t remaining = n, bins_left = max_bin - int64_t(heavy.size());
  for (const Run& run : heavy) remaining -= run.size();
  heavy.push_back({n, n});
  std::vector<int64_t> ends;
  auto next = heavy.begin();
  for (int64_t begin = 0, end; int64_t(ends.size()) < max_bin - 1; begin = end) {
    const int64_t light = next->begin - begin, share = std::max<int64_t>(bins_left, 1);
    const int64_t fair = divide_up(remaining, share);
    if (light > 0 && 2 * light * share >= remaining) {
      end = light >= fair ? run_end(sorted, begin + fair - 1) : next->begin;
      --bins_left;
    } else {
      end = next++->end;
    }
    if (end == n) break;
    ends.push_back(end);
    remaining -= std::min(light, end - begin);
  }
  return ends;
}

// Positions in the sorted keys at which a bin ends and another begins.
template <class K>
std::vector<int64_t> bin_ends(const SortedKeys<K>& sorted, int max_bin) {
  std::vector<int64_t> ends = value_ends(sorted, max_bin);
  if (int64_t(ends.size()) > max_bin) return equal_frequency_ends(sorted, max_bin);
  if (!ends.empty()) ends.pop_back();
  return ends;
}

// The keys of the sample in features [first, last), without missing values: columns of as many as
// the sample has rows. Returns how many each column has.
template <class T>
std::vector<int64_t> gather_keys(const T* data, const MatrixView& X,
                                 const std::vector<uint32_t>& sample, int64_t first, int64_t last,
                                 Key<T>* columns) {
  const int64_t n = int64_t(sample.size());
  const int64_t width = last - first;
  std::vector<int64_t> count(width);
  for (int64_t j = 0; j < n; ++j) {
    if (j + kPrefetchRows < n) {
      const T* ahead = data + sample[j + kPrefetchRows] * X.row_stride;
      __builtin_prefetch(ahead + first * X.column_stride);
      __builtin_prefetch(ahead + (last - 1) * X.column_stride);
    }
    const T* x = data + sample[j] * X.row_stride + first * X.column_stride;
    for (int64_t i = 0; i < width; ++i, x += X.column_stride) {
      columns[i * n + count[i]] = float_key(*x);
      count[i] += *x == *x;  // the next key overwrites a missing one
    }
  }
  return count;
}

// What the sample has of a feature, without missing values: keys, and zeros that were not listed.
template <class T>
struct SampledColumn {
  Key<T>* keys;
  int64_t n;
  int64_t n_zeros;
};

// Sorts the keys on the way.
template <class T>
std::vector<double> thresholds_of(const SampledColumn<T>& column, Key<T>* scratch, int max_bin) {
  Key<T>* const keys = column.keys;
  sort_keys(keys, scratch, column.n);
  const Key<T> zero = float_key(T(0));
  const int64_t first_zero = std::lower_bound(keys, keys + column.n, zero) - keys;
  const SortedKeys<Key<T>> sorted{keys, zero, first_zero, column.n_zeros,
                                  column.n + column.n_zeros};
  const auto value = [&](int64_t i) { return double(key_float<T>(sorted[i])); };
  std::vector<double> thresholds;
  for (int64_t end : bin_ends(sorted, max_bin))
    thresholds.push_back(threshold_between(value(end - 1), value(end)));
  return thresholds;
}

using Thresholds = std::vector<std::vector<double>>;

// Features are taken by the task, for the sake of rows; each thread has columns for a task, and one
// to sort with.
template <class T, class UseColumn>
void for_columns(const T* data, const MatrixView& X, const std::vector<uint32_t>& sample,
                 Team& team, const UseColumn& use_column) {
  const int64_t n = int64_t(sample.size());
  const int threads = team.threads_for(n * X.n_features, kValuesPerThread);
  const int64_t rounds = divide_up(X.n_features, kFeaturesPerTask * threads);
  const int64_t width = divide_up(X.n_features, rounds * threads);
  std::vector<Buffer<Key<T>>> memory(threads);
  for (auto& columns : memory) columns = Buffer<Key<T>>((width + 1) * n);
  team.run_blocks(threads, X.n_features, width, [&](int64_t first, int64_t last, int thread) {
    Key<T>* const columns = memory[thread].data();
    const std::vector<int64_t> count = gather_keys(data, X, sample, first, last, columns);
    for (int64_t f = first; f < last; ++f)
      use_column(f, SampledColumn<T>{columns + (f - first) * n, count[f - first], 0},
                 columns + width * n);
  });
}

// Of a sparse matrix only what is listed is looked at.
template <class T, class UseColumn>
void for_columns(const T* data, const SparseView& X, const std::vector<uint32_t>& sample,
                 Team& team, const UseColumn& use_column) {
  std::vector<uint8_t> is_sampled(X.n_samples, 0);
  for (uint32_t row : sample) is_sampled[row] = 1;
  int64_t longest = 0;
  for (int64_t f = 0; f < X.n_features; ++f)
    longest = std::max(longest, X.column_begin[f + 1] - X.column_begin[f]);
  const int threads = team.threads_for(X.column_begin[X.n_features], kValuesPerThread);
  std::vector<Buffer<Key<T>>> memory(threads);
  for (auto& columns : memory) columns = Buffer<Key<T>>(2 * longest + 1);
  team.run_blocks(threads, X.n_features, kFeaturesPerTask,
                  [&](int64_t first, int64_t last, int thread) {
                    Key<T>* const keys = memory[thread].data();
                    for (int64_t f = first; f < last; ++f) {
                      int64_t n = 0, n_missing = 0;
                      for (int64_t i = X.column_begin[f]; i < X.column_begin[f + 1]; ++i) {
                        if (!is_sampled[X.rows[i]]) continue;
                        keys[n] = float_key(data[i]);
                        (data[i] == data[i] ? n : n_missing) += 1;
                      }
                      const int64_t n_others = int64_t(sample.size()) - n - n_missing;
                      const int64_t n_zeros = X.others_are_missing ? 0 : n_others;
                      use_column(f, SampledColumn<T>{keys, n, n_zeros}, keys + longest);
                    }
                  });
}

// The first feature that a worker decides for; that of worker world_size is the end.
int64_t first_decided(int64_t n_features, const Comm& comm, int worker) {
  return n_features * worker / comm.world_size();
}

template <class T, class View>
Thresholds find_together(const T* data, const View& X, const std::vector<uint32_t>& sample,
                         int max_bin, Comm& comm, Team& team) {
  const auto first = [&](int worker) { return first_decided(X.n_features, comm, worker); };
  std::vector<Bytes> samples(X.n_features);
  for_columns(data, X, sample, team, [&](int64_t f, const SampledColumn<T>& column, Key<T>*) {
    const int64_t sizes[] = {column.n, column.n_zeros};
    append(std::span<const int64_t>(sizes), &samples[f]);
    append(std::span<const Key<T>>(column.keys, column.n), &samples[f]);
  });
  std::vector<Bytes> messages(comm.world_size());
  for (int to = 0; to < comm.world_size(); ++to)
    for (int64_t f = first(to); f < first(to + 1); ++f)
      append(std::span<const uint8_t>(std::exchange(samples[f], {})), &messages[to]);
  const std::vector<Bytes> received = comm.exchange(std::move(messages));

  std::vector<ByteReader> readers(received.begin(), received.end());
  Bytes decided;
  for (int64_t f = first(comm.rank()); f < first(comm.rank() + 1); ++f) {
    std::vector<Key<T>> keys;
    int64_t n_zeros = 0;
    for (ByteReader& reader : readers) {
      const auto sizes = reader.take<int64_t>(2);
      check(sizes[1] >= 0, "a worker's sample has fewer than no zeros");
      const auto part = reader.take<Key<T>>(sizes[0]);
      keys.insert(keys.end(), part.begin(), part.end());
      n_zeros += sizes[1];
    }
    std::vector<Key<T>> scratch(keys.size());
    const std::vector<double> found = thresholds_of(
        SampledColumn<T>{keys.data(), int64_t(keys.size()), n_zeros}, scratch.data(), max_bin);
    const int64_t n = int64_t(found.size());
    append(std::span<const int64_t>(&n, 1), &decided);
    append(std::span<const double>(found), &decided);
  }
  Thresholds thresholds;
  const std::vector<Bytes> all = comm.allgather(std::move(decided));
  for (int from = 0; from < comm.world_size(); ++from) {
    ByteReader reader(all[from]);
    for (int64_t f = first(from); f < first(from + 1); ++f)
      thresholds.push_back(reader.take<double>(reader.take<int64_t>(1)[0]));
  }
  return thresholds;
}

// For float32 data each threshold becomes the largest float32 not above it, which compares alike.
template <class T>
T round_down(double t) {
  const T f = T(t);
  return double(f) > t ? std::nextafter(f, T(-HUGE_VAL)) : f;
}

template <class T>
void lay_out_cells(BinTable<T>& table, int64_t n_thresholds) {
  using Table = BinTable<T>;
  const T* t = table.thresholds;
  table.has_cells = false;
  if (n_thresholds < Table::kFan) return;  // one step of the tree does
  table.origin = t[0];
  table.cells_per_unit = T(Table::kCells - 1) / (t[n_thresholds - 1] - t[0]);
  if (!std::isnormal(table.cells_per_unit)) return;
  int32_t n_cells = 0;
  for (int64_t i = 0; i < n_thresholds; ++i) {
    const int32_t cell = Table::cell(t[i], table.origin, table.cells_per_unit);
    while (n_cells <= cell) table.first_in_cell[n_cells++] = uint8_t(i);
    if (i - table.first_in_cell[cell] >= Table::kFan) return;
  }
  while (n_cells < Table::kCells) table.first_in_cell[n_cells++] = uint8_t(n_thresholds);
  table.has_cells = true;
}

}  // namespace

std::vector<uint32_t> binning_sample(const GlobalRows& rows) {
  constexpr int64_t kBlock = 4096;
  const uint64_t key =
      row_key(stream_key(0, UINT64_MAX, 0), 0);  // apart from every tree's rounding
  const uint64_t limit = (uint64_t(kBinningSample) << 32) / uint64_t(rows.n_samples_of_all());
  const bool takes_all = rows.n_samples_of_all() <= kBinningSample;
  std::vector<uint32_t> sample;
  sample.reserve(std::min(rows.n_samples(), 2 * kBinningSample));
  uint32_t chosen[kBlock];
  for (int64_t block = 0; block < rows.n_samples(); block += kBlock) {
    int64_t n = 0;
    const int64_t block_end = std::min(rows.n_samples(), block + kBlock);
    rows.for_stretches(block, block_end, [&](int64_t begin, int64_t end, int64_t first_row) {
      for (int64_t row = begin; row < end; ++row) {
        chosen[n] = uint32_t(row);
        n += takes_all || keyed_row_hash(key, uint32_t(first_row + row)) < limit;
      }
    });
    sample.insert(sample.end(), chosen, chosen + n);
  }
  return sample;
}

double threshold_between(double a, double b) {
  if (b == HUGE_VAL) return a == -HUGE_VAL ? 0.0 : DBL_MAX;
  const double middle = 0.5 * a + 0.5 * b;
  return a <= middle && middle < b ? middle : a;
}

std::vector<double> code_thresholds(int32_t n_codes) {
  std::vector<double> thresholds;
  for (int32_t code = 1; code < n_codes; ++code) thresholds.push_back(code - 0.5);
  return thresholds;
}

template <class T>
BinTable<T> bin_table(const std::vector<double>& thresholds) {
  using Table = BinTable<T>;
  Table table;
  std::fill(std::begin(table.thresholds), std::end(table.thresholds), T(HUGE_VAL));
  std::transform(thresholds.begin(), thresholds.end(), table.thresholds, round_down<T>);
  int64_t reach = Table::kFan;  // a tree of that many slots
  for (table.n_levels = 1; reach <= int64_t(thresholds.size()); reach *= Table::kFan) {
    const T* below = table.thresholds + Table::begin(table.n_levels - 1);
    T* level = table.thresholds + Table::begin(table.n_levels++);
    for (int64_t i = 0; i < kBinPlaces / reach; ++i)
      level[i] = below[i * Table::kFan + Table::kFan - 1];
  }
  lay_out_cells(table, int64_t(thresholds.size()));
  return table;
}
template BinTable<float> bin_table(const std::vector<double>&);
template BinTable<double> bin_table(const std::vector<double>&);

template <class View>
std::vector<std::vector<double>> find_bin_thresholds(const View& X, const GlobalRows& rows,
                                                     int max_bin, Comm& comm, Team& team) {
  const std::vector<uint32_t> sample = binning_sample(rows);
  return visit_elements(X, [&]<class T>(const T* data) {
    if (comm.world_size() > 1) return find_together(data, X, sample, max_bin, comm, team);
    Thresholds thresholds(X.n_features);
    for_columns(data, X, sample, team,
                [&](int64_t f, const SampledColumn<T>& column, Key<T>* scratch) {
                  thresholds[f] = thresholds_of(column, scratch, max_bin);
                });
    return thresholds;
  });
}
template Thresholds find_bin_thresholds(const MatrixView&, const GlobalRows&, int, Comm&, Team&);
template Thresholds find_bin_thresholds(const SparseView&, const GlobalRows&, int, Comm&, Team&);

}  // namespace qgbdt
