// ---- quantize: 8 bytes read, 6 (or 8) written a row; one hash and two roundings ----
#pragma once

#include "../quantize.h"
#include "atomics.h"
#include "histogram.h"
#include "launch.h"

namespace qgbdt {

// Rounds rows [begin, end) of one output and puts them into the root. Among the rows of all
// workers, row i has the number first_row + i.
template <class Pair>
struct QuantizeRows {
  static constexpr int kThreads = 256, kRowsPerBlock = 4096;
  using Shared = Partials<HistCell, kThreads>;

  Quantization quantization;
  const float *gradient, *hessian;
  int64_t first_row, begin, end;
  Pair* pairs;
  uint32_t* row_order;
  HistCell* total;

  template <bool kStochastic>
  QGBDT_FN HistCell round(int64_t i) const {
    const Quantization& q = quantization;
    const uint32_t random = row_hash(q.key, uint64_t(first_row + i));
    const int32_t g = quantize_gradient<kStochastic>(q, gradient[i], random);
    const int32_t h = q.constant_hessian ? 1 : quantize_hessian<kStochastic>(q, hessian[i], random);
    pack_pair(g, h, &pairs[i]);
    return make_cell(g, h);
  }
  QGBDT_FN void round_rows(const At& at, Shared& partials) const {
    const int64_t from = begin + at.block * kRowsPerBlock;
    const int64_t to = from + kRowsPerBlock < end ? from + kRowsPerBlock : end;
    HistCell sum = 0;
    for (int64_t i = from + at.thread; i < to; i += kThreads) {
      sum += quantization.stochastic ? round<true>(i) : round<false>(i);
      row_order[i] = uint32_t(i);
    }
    partials.of_thread[at.thread] = sum;
  }
  QGBDT_FN void finish(const At& at, Shared& partials) const {
    if (at.thread == 0) atomic_add(total, partials.sum());
  }

  using Steps = StepList<&QuantizeRows::round_rows, &QuantizeRows::finish>;
};

}  // namespace qgbdt
