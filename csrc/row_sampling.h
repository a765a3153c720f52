// Which rows the trees of an iteration are grown on: all, a bag (Friedman, "Stochastic gradient
// boosting", 2002), or those of large gradients and some others (gradient-based one-side
// sampling, Ke et al., "LightGBM", NeurIPS 2017).
#pragma once

#include <span>

#include "backend.h"
#include "comm.h"
#include "params.h"
#include "types.h"

namespace qgbdt {

struct RowsInUse {
  int64_t count;  // over all workers
  bool is_amplified;
};

class RowSampling {
 public:
  RowSampling(Backend& backend, Comm& comm, const TrainParams& params, int64_t n_samples)
      : backend_(backend), comm_(comm), params_(params), n_samples_(n_samples) {}

  // Once an iteration, after its gradients; ranges become those of the rows in use, on this worker.
  RowsInUse sample(int64_t iteration, std::span<GradientRange> ranges);

 private:
  RowSample bag(int64_t iteration) const;
  RowSample by_gradient(int64_t iteration);

  Backend& backend_;
  Comm& comm_;
  const TrainParams& params_;
  const int64_t n_samples_;  // over all workers
};

}  // namespace qgbdt
