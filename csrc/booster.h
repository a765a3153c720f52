// The boosting loop: gradients, one tree per output, leaf values, raw predictions; again.
#pragma once

#include <functional>
#include <span>

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

// The leaves of the backend's rows in the trees of an iteration, [n_outputs][n_samples].
using LeavesOfRows = std::function<std::span<const int32_t>(int64_t iteration)>;

// Gives the leaves of all trees new values: their own times decay_rate, and what they would be if
// they grew on the backend's rows times the rest. Trees, and what they say of rows, stay.
Model refit(Backend& backend, Comm& comm, const BinnedMatrix& bins, const TrainParams& params,
            Model model, double decay_rate, const LeavesOfRows& leaves,
            const std::function<void()>& before);

}  // namespace qgbdt
