// ---- arrays of the user's: a thread an element ----
#pragma once

#include "../backend.h"
#include "geometry.h"
#include "launch.h"

namespace qgbdt {

// Lays elements side by side, row by row.
struct GatherElements {
  static constexpr int kThreads = 256;
  using Shared = NothingShared;

  DeviceElements from;
  uint8_t* to;

  QGBDT_FN void gather(const At& at, Shared&) const {
    const int64_t i = at.block * kThreads + at.thread;
    if (i >= from.n_rows * from.n_columns) return;
    const uint8_t* const element =
        from.first + i / from.n_columns * from.row_stride + i % from.n_columns * from.column_stride;
    for (int64_t b = 0; b < from.item_bytes; ++b) to[i * from.item_bytes + b] = element[b];
  }

  using Steps = StepList<&GatherElements::gather>;
};

}  // namespace qgbdt
