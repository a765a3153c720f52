// ---- gradients: a thread a row (or a query), then one pass over them for their magnitudes ----
#pragma once

#include "../elementary.h"
#include "../objective.h"
#include "../support/rng.h"
#include "../types.h"
#include "atomics.h"
#include "launch.h"

namespace qgbdt {

// Arrays of outputs are output-major: [n_outputs][n_samples].
struct DeviceRows {
  int64_t n_samples;
  int32_t n_outputs;
  const double* target;  // [n_targets][n_samples]
  const double* weight;  // or null
  double* raw_prediction;
  float* gradient;
  float* hessian;

  QGBDT_FN void set(int64_t i, const Gradient& x, double weight_of_row) const {
    gradient[i] = to_gradient(x.g * weight_of_row);
    hessian[i] = to_gradient(x.h * weight_of_row);
  }
  QGBDT_FN double weight_of(int64_t row) const { return weight ? weight[row] : 1.0; }
};

constexpr int kRowThreads = 256;  // of kernels with a thread a row

struct SetScores {
  static constexpr int kThreads = kRowThreads;
  using Shared = NothingShared;

  DeviceRows rows;
  const double* scores;  // [n_outputs]
  uint32_t* row_order;

  QGBDT_FN void set(const At& at, Shared&) const {
    const int64_t row = at.block * kThreads + at.thread;
    if (row >= rows.n_samples) return;
    for (int32_t k = 0; k < rows.n_outputs; ++k)
      rows.raw_prediction[k * rows.n_samples + row] = scores[k];
    row_order[row] = uint32_t(row);
  }

  using Steps = StepList<&SetScores::set>;
};

template <class Objective>
struct RowGradients {
  static constexpr int kThreads = kRowThreads;
  using Shared = NothingShared;

  DeviceRows rows;
  ObjectiveArgs args;

  QGBDT_FN void compute(const At& at, Shared&) const {
    const int64_t row = at.block * kThreads + at.thread;
    if (row >= rows.n_samples) return;
    for (int64_t i = row; i < rows.n_samples * rows.n_outputs; i += rows.n_samples)
      rows.set(i, Objective::gradient(rows.raw_prediction[i], rows.target[i], args),
               rows.weight_of(row));
  }

  using Steps = StepList<&RowGradients::compute>;
};

template <>
struct RowGradients<Multiclass> {
  static constexpr int kThreads = kRowThreads;
  using Shared = NothingShared;

  DeviceRows rows;
  ObjectiveArgs args;

  QGBDT_FN void compute(const At& at, Shared&) const {
    const int64_t row = at.block * kThreads + at.thread;
    if (row >= rows.n_samples) return;
    const double* const s = rows.raw_prediction + row;
    const int64_t n = rows.n_samples;
    double largest = s[0], sum = 0;
    for (int32_t k = 1; k < rows.n_outputs; ++k) largest = s[k * n] > largest ? s[k * n] : largest;
    for (int32_t k = 0; k < rows.n_outputs; ++k) sum += exp(s[k * n] - largest);
    const double factor = Multiclass::hessian_factor(rows.n_outputs);
    for (int32_t k = 0; k < rows.n_outputs; ++k) {
      const double p = exp(s[k * n] - largest) / sum;
      rows.set(k * n + row, Multiclass::gradient(p, rows.target[row] == double(k), factor),
               rows.weight_of(row));
    }
  }

  using Steps = StepList<&RowGradients::compute>;
};

template <>
struct RowGradients<OneVsAll> {
  static constexpr int kThreads = kRowThreads;
  using Shared = NothingShared;

  DeviceRows rows;
  ObjectiveArgs args;

  QGBDT_FN void compute(const At& at, Shared&) const {
    const int64_t row = at.block * kThreads + at.thread;
    if (row >= rows.n_samples) return;
    for (int32_t k = 0; k < rows.n_outputs; ++k) {
      const int64_t i = k * rows.n_samples + row;
      const double is_class = rows.target[row] == double(k) ? 1.0 : 0.0;
      rows.set(i, OneVsAll::gradient(rows.raw_prediction[i], is_class, args), rows.weight_of(row));
    }
  }

  using Steps = StepList<&RowGradients::compute>;
};

// A thread a query: its sums have an order.
template <>
struct RowGradients<RankXendcg> {
  static constexpr int kThreads = 32;
  using Shared = NothingShared;

  DeviceRows rows;
  int64_t n_queries;
  uint64_t key;
  const int64_t* query_begin;  // [n_queries + 1]
  const int64_t* row_numbers;
  const double* label_gain;
  double *probability, *g, *h;  // [n_samples]

  QGBDT_FN void compute(const At& at, Shared&) const {
    const int64_t query = at.block * kThreads + at.thread;
    if (query >= n_queries) return;
    const int64_t begin = query_begin[query], end = query_begin[query + 1];
    for (int64_t i = begin; i < end; ++i)
      g[i] = RankXendcg::relevance(label_gain[int64_t(rows.target[i])],
                                   row_hash(key, uint64_t(row_numbers[i])));
    RankXendcg::gradients(rows.raw_prediction + begin, end - begin, probability + begin, g + begin,
                          h + begin);
    for (int64_t i = begin; i < end; ++i) rows.set(i, {g[i], h[i]}, rows.weight_of(i));
  }

  using Steps = StepList<&RowGradients::compute>;
};

// A thread a query. The sums over its pairs have an order, that of ranks, which no two threads
// could keep; queries are many.
template <>
struct RowGradients<LambdaRank> {
  static constexpr int kThreads = 32;
  using Shared = NothingShared;

  DeviceRows rows;
  int64_t n_queries;
  int32_t truncation_level;
  const int64_t* query_begin;     // [n_queries + 1]
  const double* inverse_max_dcg;  // [n_queries]
  const double* discount;         // by rank
  const double* label_gain;
  uint32_t* ranked;  // [n_samples]: the documents of each query, by rank
  double *g, *h;     // [n_samples], sums

  QGBDT_FN void compute(const At& at, Shared&) const {
    const int64_t query = at.block * kThreads + at.thread;
    if (query >= n_queries) return;
    const int64_t begin = query_begin[query], n = query_begin[query + 1] - begin;
    const double* const score = rows.raw_prediction + begin;
    uint32_t* const by_rank = ranked + begin;
    rank(score, n, by_rank);
    const double sum_lambda = sum_pairs(query, begin, n);
    const double norm = sum_lambda > 0 ? LambdaRank::query_norm(sum_lambda) : 1.0;
    for (int64_t i = begin; i < begin + n; ++i)
      rows.set(i, {g[i] * norm, h[i] * norm}, rows.weight_of(i));
  }

  using Steps = StepList<&RowGradients::compute>;

 private:
  // Best score first; where scores are equal, in the order of rows.
  static QGBDT_FN bool is_before(const double* score, uint32_t a, uint32_t b) {
    return score[a] != score[b] ? score[a] > score[b] : a < b;
  }
  static QGBDT_FN void sift_down(const double* score, uint32_t* heap, int64_t root, int64_t n) {
    for (int64_t child; (child = 2 * root + 1) < n; root = child) {
      if (child + 1 < n && is_before(score, heap[child], heap[child + 1])) ++child;
      if (is_before(score, heap[child], heap[root])) return;
      const uint32_t last = heap[root];
      heap[root] = heap[child];
      heap[child] = last;
    }
  }
  static QGBDT_FN void rank(const double* score, int64_t n, uint32_t* by_rank) {  // heapsort
    for (int64_t i = 0; i < n; ++i) by_rank[i] = uint32_t(i);
    for (int64_t i = n / 2 - 1; i >= 0; --i) sift_down(score, by_rank, i, n);
    for (int64_t end = n - 1; end > 0; --end) {
      const uint32_t last = by_rank[0];
      by_rank[0] = by_rank[end];
      by_rank[end] = last;
      sift_down(score, by_rank, 0, end);
    }
  }

  // g and h of all pairs of n documents; returns the sum of lambdas.
  QGBDT_FN double sum_pairs(int64_t query, int64_t begin, int64_t n) const {
    const uint32_t* const by_rank = ranked + begin;
    const double* const score = rows.raw_prediction + begin;
    const double* const label = rows.target + begin;
    for (int64_t i = 0; i < n; ++i) g[begin + i] = h[begin + i] = 0;
    const bool distinct = n > 0 && score[by_rank[0]] != score[by_rank[n - 1]];
    double sum_lambda = 0;
    for (int64_t i = 0; i < n - 1 && i < truncation_level; ++i) {
      const uint32_t a = by_rank[i];
      const double gain = label_gain[int64_t(label[a])];
      for (int64_t j = i + 1; j < n; ++j) {
        const uint32_t b = by_rank[j];
        const double gain_b = label_gain[int64_t(label[b])];
        if (gain_b == gain) continue;
        const double delta = score[a] - score[b];
        const bool a_is_better = gain > gain_b;
        double delta_ndcg =
            LambdaRank::delta_ndcg(gain, gain_b, discount[i], discount[j], inverse_max_dcg[query]);
        if (distinct) delta_ndcg = LambdaRank::normalize_by_distance(delta_ndcg, delta);
        const Gradient pair = LambdaRank::pair(
            LambdaRank::misorder_probability(a_is_better ? delta : -delta), delta_ndcg);
        const double of_b = a_is_better ? pair.g : -pair.g;
        g[begin + b] += of_b;
        h[begin + b] += pair.h;
        g[begin + a] -= of_b;
        h[begin + a] += pair.h;
        sum_lambda += 2.0 * __builtin_fabs(of_b);
      }
    }
    return sum_lambda;
  }
};

// As Magnitudes, the maximum by the bits of its float32.
struct DeviceMagnitudes {
  int64_t counts[256];
  uint32_t largest, unused;
};

// magnitudes[array] of several arrays of floats, one after the other.
struct Measure {
  static constexpr int kThreads = 256, kValuesPerBlock = 4096;
  struct Shared {
    uint32_t counts[256], largest;
  };

  const float* values;
  int64_t n, blocks_per_array;
  DeviceMagnitudes* magnitudes;

  QGBDT_FN void clear(const At& at, Shared& shared) const {
    for (int e = at.thread; e < 256; e += kThreads) shared.counts[e] = 0;
    if (at.thread == 0) shared.largest = 0;
  }
  QGBDT_FN void measure(const At& at, Shared& shared) const {
    const float* const x = values + at.block / blocks_per_array * n;
    const int64_t begin = at.block % blocks_per_array * kValuesPerBlock;
    const int64_t end = begin + kValuesPerBlock < n ? begin + kValuesPerBlock : n;
    uint32_t largest = 0;
    for (int64_t i = begin + at.thread; i < end; i += kThreads) {
      const uint32_t bits = __builtin_bit_cast(uint32_t, x[i]) & 0x7fffffffu;
      largest = bits > largest ? bits : largest;
      atomic_add(&shared.counts[bits >> 23], 1);
    }
    atomic_max(&shared.largest, largest);
  }
  QGBDT_FN void flush(const At& at, Shared& shared) const {
    DeviceMagnitudes& to = magnitudes[at.block / blocks_per_array];
    for (int e = at.thread; e < 256; e += kThreads)
      if (shared.counts[e] != 0) atomic_add(&to.counts[e], int64_t(shared.counts[e]));
    if (at.thread == 0) atomic_max(&to.largest, shared.largest);
  }

  using Steps = StepList<&Measure::clear, &Measure::measure, &Measure::flush>;
};

}  // namespace qgbdt
