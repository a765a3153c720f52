// ---- samples of rows: a thread a row ----
#pragma once

#include "../objective.h"
#include "../row_sample.h"
#include "atomics.h"
#include "gradients.h"
#include "histogram.h"
#include "launch.h"

namespace qgbdt {

struct FindMagnitudes {
  static constexpr int kThreads = kRowThreads;
  using Shared = NothingShared;

  DeviceRows rows;
  uint32_t* bits;

  QGBDT_FN void find(const At& at, Shared&) const {
    const int64_t row = at.block * kThreads + at.thread;
    if (row >= rows.n_samples) return;
    double sum = 0;
    for (int64_t i = row; i < rows.n_samples * rows.n_outputs; i += rows.n_samples)
      sum += __builtin_fabs(double(rows.gradient[i]) * double(rows.hessian[i]));
    bits[row] = magnitude_bits(sum);
  }

  using Steps = StepList<&FindMagnitudes::find>;
};

// As Backend::count_magnitudes.
struct CountMagnitudes {
  static constexpr int kThreads = kRowThreads;
  using Shared = NothingShared;

  const uint32_t* bits;
  int64_t n_samples;
  uint32_t prefix;
  int shift;
  uint32_t n_digits;
  int64_t* counts;

  QGBDT_FN void count(const At& at, Shared&) const {
    const int64_t row = at.block * kThreads + at.thread;
    if (row >= n_samples) return;
    const uint32_t digits = bits[row] >> shift;
    if (digits / n_digits == prefix) atomic_add(&counts[digits % n_digits], int64_t(1));
  }

  using Steps = StepList<&CountMagnitudes::count>;
};

// Marks the rows that are left out and scales the gradients of all.
struct SampleRows {
  static constexpr int kThreads = kRowThreads;
  using Shared = Partials<int64_t, kThreads>;

  RowSample sample;
  DeviceRows rows;
  const uint32_t* numbers;         // by which rows are drawn
  const uint32_t* magnitude_bits;  // where they are sampled by gradient
  uint8_t* left_out;
  int64_t* n_in_use;

  QGBDT_FN void draw(const At& at, Shared& in_use) const {
    const int64_t row = at.block * kThreads + at.thread;
    in_use.of_thread[at.thread] = 0;
    if (row >= rows.n_samples) return;
    const bool is_large = sample.by_gradient && magnitude_bits[row] >= sample.least_large;
    const bool is_in_use = is_large || is_drawn(sample, numbers[row]);
    const double factor = !is_in_use ? 0 : is_large ? 1 : sample.amplification;
    for (int64_t i = row; i < rows.n_samples * rows.n_outputs; i += rows.n_samples) {
      rows.gradient[i] = to_gradient(double(rows.gradient[i]) * factor);
      rows.hessian[i] = to_gradient(double(rows.hessian[i]) * factor);
    }
    left_out[row] = !is_in_use;
    in_use.of_thread[at.thread] = is_in_use;
  }
  QGBDT_FN void finish(const At& at, Shared& in_use) const {
    if (at.thread == 0) atomic_add(n_in_use, in_use.sum());
  }

  using Steps = StepList<&SampleRows::draw, &SampleRows::finish>;
};

}  // namespace qgbdt
