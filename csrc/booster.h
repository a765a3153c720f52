// The boosting loop: gradients, one tree per output, leaf values, raw predictions; again.
#pragma once

#include <functional>

#include "backend.h"
#include "binned_matrix.h"
#include "comm.h"
#include "grower.h"
#include "params.h"
#include "tree.h"

namespace qgbdt {

struct QuantizationReport {  // of one tree
  int bits;
  Quantization quantization;
  double gradient_noise, hessian_noise;  // see rounding_noise
};

struct TrainingReport {
  GrowthReport growth;
  std::vector<QuantizationReport> quantization;
};

// Called in every iteration; either may throw to end the fit with an error (Ctrl-C).
struct IterationHooks {
  std::function<void()> before;
  std::function<bool(const Model&)> after;  // whether to go on
};

// Grows up to n_estimators iterations of trees onto `model`. One without base scores is new and
// gets them; another's raw predictions are where the backend starts.
Model train(Backend& backend, Comm& comm, const BinnedMatrix& bins, const TrainParams& params,
            Model model, const IterationHooks& hooks, TrainingReport& report);

}  // namespace qgbdt
