// ---- leaves: a finished tree's leaves, chunk by chunk of their rows ----
#pragma once

#include "../fixed_point.h"
#include "geometry.h"
#include "histogram.h"
#include "launch.h"

namespace qgbdt {

// Integers of 64 bits: sums of a leaf's gradients and hessians.
struct SumLeaves {
  static constexpr int kThreads = 256;
  struct Shared {
    Partials<int64_t, kThreads> gradients, hessians;
  };

  RowChunks chunks;
  const uint32_t* row_order;
  const float *gradient, *hessian;
  double gradient_scale, hessian_scale;
  LeafSums* sums;

  QGBDT_FN void add(const At& at, Shared& shared) const {
    const RowRange rows = chunks.at(at.block).rows;
    int64_t g = 0, h = 0;
    for (uint32_t i = rows.begin + uint32_t(at.thread); i < rows.end; i += kThreads) {
      const uint32_t row = row_order[i];
      g += to_fixed(double(gradient[row]), gradient_scale);
      h += to_fixed(double(hessian[row]), hessian_scale);
    }
    shared.gradients.of_thread[at.thread] = g;
    shared.hessians.of_thread[at.thread] = h;
  }
  QGBDT_FN void finish(const At& at, Shared& shared) const {
    LeafSums& leaf = sums[chunks.at(at.block).range];
    if (at.thread == 0) atomic_add(&leaf.gradient, shared.gradients.sum());
    if (at.thread == 1) atomic_add(&leaf.hessian, shared.hessians.sum());
  }

  using Steps = StepList<&SumLeaves::add, &SumLeaves::finish>;
};

struct AddLeafValues {
  static constexpr int kThreads = 256;
  using Shared = NothingShared;

  RowChunks chunks;
  const uint32_t* row_order;
  const double* values;
  double* raw_prediction;

  QGBDT_FN void add(const At& at, Shared&) const {
    const Chunk chunk = chunks.at(at.block);
    for (uint32_t i = chunk.rows.begin + uint32_t(at.thread); i < chunk.rows.end; i += kThreads)
      raw_prediction[row_order[i]] += values[chunk.range];
  }

  using Steps = StepList<&AddLeafValues::add>;
};

}  // namespace qgbdt
