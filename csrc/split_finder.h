// The best splits of nodes, over the features of all workers.
#pragma once

#include <span>
#include <vector>

#include "backend.h"
#include "binned_matrix.h"
#include "comm.h"

namespace qgbdt {

// Children too small are rare, and to count the rows in all bins of all features would cost as much
// as their sums. So each worker names a node's best splits among its features as if all children
// were large enough, down to the first whose children are known to be; only where one before it may
// win, the rows in the bins of that feature are counted. A worker whose splits are refused names
// its next best ones.
class SplitFinder {
 public:
  SplitFinder(Backend& backend, Comm& comm, const BinnedMatrix& bins, const SplitParams& params)
      : backend_(backend), comm_(comm), bins_(bins), params_(params) {}

  // The best split of each task's node that leaves both children min_child_samples rows, or none.
  std::vector<SplitCandidate> find(std::span<const FindSplitTask> tasks);

 private:
  using Named = std::vector<std::vector<SplitCandidate>>;  // [nodes][splits]

  Named name_splits(std::span<const int32_t> nodes);
  std::vector<HistCell> count(std::span<const CountTask> tasks);
  bool has_enough_rows(const SplitCandidate& split, int64_t count, const HistCell* row_counts);

  Backend& backend_;
  Comm& comm_;
  const BinnedMatrix& bins_;
  const SplitParams& params_;
};

}  // namespace qgbdt
