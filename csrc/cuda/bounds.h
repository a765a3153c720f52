// ---- bounds: kernels that do nothing but what others are bound by, to be timed beside them ----
#pragma once

#include "atomics.h"
#include "histogram.h"
#include "launch.h"

namespace qgbdt {

// Memory: 8 bytes a word read and written, in order.
struct CopyWords {
  static constexpr int kThreads = 256, kWordsPerBlock = 1 << 14;
  using Shared = NothingShared;

  const uint64_t* from;
  uint64_t* to;

  QGBDT_FN void copy(const At& at, Shared&) const {
    const int64_t first = at.block * kWordsPerBlock;
    for (int64_t i = first + at.thread; i < first + kWordsPerBlock; i += kThreads) to[i] = from[i];
  }

  using Steps = StepList<&CopyWords::copy>;
};

// Shared memory: additions as AddRows has them, without what it reads.
struct AddOnes {
  static constexpr int kThreads = 256, kPerThread = 1 << 12;
  using Shared = LaneSums;

  uint32_t* sums;  // [n_blocks]

  QGBDT_FN void clear(const At& at, Shared& shared) const {
    for (int32_t i = at.thread; i < kBinPlaces * kBanks; i += kThreads)
      shared.clear(i / kBanks, i % kBanks);
  }
  QGBDT_FN void add(const At& at, Shared& shared) const {
    const int32_t column = at.thread % kBanks, first = at.thread / kBanks;
    for (int32_t i = 0; i < kPerThread; ++i)
      atomic_add(&shared.lanes[(first + 37 * i) % kBinPlaces][column], 1);
  }
  QGBDT_FN void finish(const At& at, Shared& shared) const {
    if (at.thread != 0) return;
    uint32_t sum = 0;
    for (int32_t i = 0; i < kBinPlaces * kBanks; ++i) sum += shared.lanes[i / kBanks][i % kBanks];
    sums[at.block] = sum;
  }

  using Steps = StepList<&AddOnes::clear, &AddOnes::add, &AddOnes::finish>;
};

}  // namespace qgbdt
