// The boosting loop: gradients, one tree per output, leaf values, raw predictions; again.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "backend.h"
#include "binned_matrix.h"
#include "comm.h"
#include "grower.h"
#include "params.h"
#include "tree.h"

namespace qgbdt {

// Called before every iteration; may throw to stop the fit (Ctrl-C).
using IterationHook = std::function<void(int iteration)>;

Model train(Backend& backend, Comm& comm, const BinnedMatrix& bins, const TrainParams& params,
            std::vector<std::string> feature_names, const IterationHook& before_iteration,
            GrowthReport& report);

}  // namespace qgbdt
