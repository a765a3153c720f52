// ---- partition: the rows of nodes to left and right, in order ----
//
// Each chunk counts its left rows; sums of these say where a chunk's rows go; each chunk puts them
// there, into scratch; and back. 4 bytes a row read three times and written twice, and twice a
// gathered byte.
#pragma once

#include "../split.h"
#include "geometry.h"
#include "histogram.h"
#include "launch.h"

namespace qgbdt {

constexpr int kPartitionThreads = 256, kRowsPerThread = 8;
constexpr uint32_t kPartitionRows = kPartitionThreads * kRowsPerThread;  // of a chunk

// How the rows of each range are split.
struct RangeSplits {
  const CategorySet* left_bins;   // [n_ranges]
  const uint8_t* const* columns;  // [n_ranges]
  QGBDT_FN bool goes_left(int32_t range, uint32_t row) const {
    return left_bins[range].contains(columns[range][row]);
  }
};

// What a thread has of a chunk: rows that follow one another.
QGBDT_FN RowRange rows_of_thread(const RowRange& rows, int thread) {
  const uint32_t n = rows.end - rows.begin;
  const uint32_t from = uint32_t(thread) * kRowsPerThread, to = from + kRowsPerThread;
  return {rows.begin + (from < n ? from : n), rows.begin + (to < n ? to : n)};
}

struct LeftCounter {
  RowChunks chunks;
  RangeSplits splits;
  const uint32_t* row_order;

  QGBDT_FN uint32_t count(const At& at) const {
    const Chunk chunk = chunks.at(at.block);
    const RowRange rows = rows_of_thread(chunk.rows, at.thread);
    uint32_t n = 0;
    for (uint32_t i = rows.begin; i < rows.end; ++i)
      n += splits.goes_left(chunk.range, row_order[i]);
    return n;
  }
};

struct CountLeft {
  static constexpr int kThreads = kPartitionThreads;
  using Shared = Partials<uint32_t, kThreads>;

  LeftCounter counter;
  uint32_t* left_of_chunk;

  QGBDT_FN void count(const At& at, Shared& partials) const {
    partials.of_thread[at.thread] = counter.count(at);
  }
  QGBDT_FN void finish(const At& at, Shared& partials) const {
    if (at.thread == 0) left_of_chunk[at.block] = partials.sum();
  }

  using Steps = StepList<&CountLeft::count, &CountLeft::finish>;
};

// left_of_chunk becomes what the chunks before have, of the same range. A block a range.
struct ScanChunks {
  static constexpr int kThreads = 256;
  using Shared = Partials<uint32_t, kThreads>;

  RowChunks chunks;
  uint32_t* left_of_chunk;
  uint32_t* left_of_range;

  QGBDT_FN int64_t first_of(const At& at, int thread) const {  // of a thread's chunks
    const int64_t first = chunks.first_chunk[at.block];
    return first + (chunks.first_chunk[at.block + 1] - first) * thread / kThreads;
  }
  QGBDT_FN void add(const At& at, Shared& partials) const {
    uint32_t sum = 0;
    for (int64_t i = first_of(at, at.thread); i < first_of(at, at.thread + 1); ++i)
      sum += left_of_chunk[i];
    partials.of_thread[at.thread] = sum;
  }
  QGBDT_FN void scan(const At& at, Shared& partials) const {
    if (at.thread == 0) left_of_range[at.block] = partials.sums_before();
  }
  QGBDT_FN void write(const At& at, Shared& partials) const {
    uint32_t sum = partials.of_thread[at.thread];
    for (int64_t i = first_of(at, at.thread); i < first_of(at, at.thread + 1); ++i) {
      const uint32_t own = left_of_chunk[i];
      left_of_chunk[i] = sum;
      sum += own;
    }
  }

  using Steps = StepList<&ScanChunks::add, &ScanChunks::scan, &ScanChunks::write>;
};

struct MoveRows {
  static constexpr int kThreads = kPartitionThreads;
  using Shared = Partials<uint32_t, kThreads>;

  LeftCounter counter;
  const uint32_t *left_of_chunk, *left_of_range;
  uint32_t* scratch;

  QGBDT_FN void count(const At& at, Shared& partials) const {
    partials.of_thread[at.thread] = counter.count(at);
  }
  QGBDT_FN void scan(const At& at, Shared& partials) const {
    if (at.thread == 0) partials.sums_before(left_of_chunk[at.block]);
  }
  QGBDT_FN void move(const At& at, Shared& partials) const {
    const Chunk chunk = counter.chunks.at(at.block);
    const RowRange rows = rows_of_thread(chunk.rows, at.thread);
    const uint32_t first = counter.chunks.ranges[chunk.range].begin;
    uint32_t n_left = partials.of_thread[at.thread];
    for (uint32_t i = rows.begin; i < rows.end; ++i) {
      const uint32_t row = counter.row_order[i];
      const bool left = counter.splits.goes_left(chunk.range, row);
      const uint32_t n_right = i - first - n_left;
      scratch[first + (left ? n_left : left_of_range[chunk.range] + n_right)] = row;
      n_left += left;
    }
  }

  using Steps = StepList<&MoveRows::count, &MoveRows::scan, &MoveRows::move>;
};

struct CopyRows {
  static constexpr int kThreads = 256;
  using Shared = NothingShared;

  RowChunks chunks;
  const uint32_t* scratch;
  uint32_t* row_order;

  QGBDT_FN void copy(const At& at, Shared&) const {
    const RowRange rows = chunks.at(at.block).rows;
    for (uint32_t i = rows.begin + uint32_t(at.thread); i < rows.end; i += kThreads)
      row_order[i] = scratch[i];
  }

  using Steps = StepList<&CopyRows::copy>;
};

}  // namespace qgbdt
