// ---- residuals: their keys by place in the row order, and the weights of a digit's values ----
#pragma once

#include "../fixed_point.h"
#include "../residual.h"
#include "atomics.h"
#include "geometry.h"
#include "gradients.h"

namespace qgbdt {

template <class Objective>
struct TakeResiduals {
  static constexpr int kThreads = kRowThreads;
  using Shared = NothingShared;

  DeviceRows rows;
  int64_t output;
  const uint32_t* row_order;
  double weight_scale;
  uint32_t* keys;
  int64_t* weights;

  QGBDT_FN void take(const At& at, Shared&) const {
    const int64_t i = at.block * kThreads + at.thread;
    if (i >= rows.n_samples) return;
    const uint32_t row = row_order[i];
    const int64_t of_output = output * rows.n_samples + row;
    const double y = rows.target[of_output];
    keys[i] = residual_key(y - rows.raw_prediction[of_output]);
    weights[i] = to_fixed(Objective::weight(rows.weight_of(row), y), weight_scale);
  }

  using Steps = StepList<&TakeResiduals::take>;
};

struct WeighDigits {
  static constexpr int kThreads = 256;
  struct Shared {
    int64_t sums[kDigits];
  };

  RowChunks chunks;
  const uint32_t* prefixes;  // [n_ranges]
  int digit;
  const uint32_t* keys;
  const int64_t* weights;
  int64_t* sums;  // [n_ranges][kDigits]

  QGBDT_FN void clear(const At& at, Shared& shared) const {
    for (int d = at.thread; d < kDigits; d += kThreads) shared.sums[d] = 0;
  }
  QGBDT_FN void add(const At& at, Shared& shared) const {
    const Chunk chunk = chunks.at(at.block);
    for (uint32_t i = chunk.rows.begin + uint32_t(at.thread); i < chunk.rows.end; i += kThreads)
      if (digits_before(keys[i], digit) == prefixes[chunk.range])
        atomic_add(&shared.sums[digit_of(keys[i], digit)], weights[i]);
  }
  QGBDT_FN void flush(const At& at, Shared& shared) const {
    int64_t* const to = sums + int64_t(chunks.at(at.block).range) * kDigits;
    for (int d = at.thread; d < kDigits; d += kThreads)
      if (shared.sums[d] != 0) atomic_add(to + d, shared.sums[d]);
  }

  using Steps = StepList<&WeighDigits::clear, &WeighDigits::add, &WeighDigits::flush>;
};

}  // namespace qgbdt
