// The numbers that a worker's rows have among those of all workers. They decide which rows the
// sample of binning has and how gradients round, so that nothing depends on who holds a row.
#pragma once

#include <stdint.h>

#include <algorithm>
#include <span>
#include <vector>

#include "comm.h"

namespace qgbdt {

// Rows of a worker that follow one another. All rows are the blocks of all workers, in the order of
// their numbers.
struct RowBlock {
  int64_t number, n_rows;
};

class GlobalRows {
 public:
  // blocks: this worker's, in the order in which it holds them.
  GlobalRows(std::span<const RowBlock> blocks, Comm& comm);

  int64_t n_samples() const { return stretches_.empty() ? 0 : stretches_.back().end; }
  int64_t n_samples_of_all() const { return n_samples_of_all_; }

  // Calls visit(begin, end, first_row) for each stretch of [begin, end) without a gap in the
  // numbers: row i has number first_row + i.
  template <class Visit>
  void for_stretches(int64_t begin, int64_t end, const Visit& visit) const {
    auto stretch = std::partition_point(stretches_.begin(), stretches_.end(),
                                        [&](const Stretch& s) { return s.end <= begin; });
    for (; begin < end; begin = stretch++->end)
      visit(begin, std::min(end, stretch->end), stretch->first_row);
  }

 private:
  struct Stretch {  // never empty
    int64_t end, first_row;
  };

  std::vector<Stretch> stretches_;
  int64_t n_samples_of_all_ = 0;
};

}  // namespace qgbdt
