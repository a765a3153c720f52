// DART (Rashmi and Gilad-Bachrach, "DART: Dropouts meet Multiple Additive Regression Trees", 2015):
// each iteration's trees grow as if some of the earlier ones were not there. Then both count for
// less, so that together they are what the earlier ones were.
#pragma once

#include <vector>

#include "backend.h"
#include "binned_matrix.h"
#include "params.h"
#include "tree.h"

namespace qgbdt {

class Dropout {
 public:
  // Only trees of later iterations than those of the model that training starts from are dropped.
  Dropout(Backend& backend, const BinnedMatrix& bins, const TrainParams& params,
          int64_t first_iteration)
      : backend_(backend), bins_(bins), params_(params), first_iteration_(first_iteration) {}

  // Takes the trees that it draws out of the raw predictions; returns what the leaf values of the
  // next ones are multiplied by.
  double drop(const Model& model);
  // Puts them back, for less.
  void put_back(Model* model);

 private:
  void draw(int64_t iteration);
  // Adds the trees of an iteration to the raw predictions, times a sign.
  void add_trees(const Model& model, int64_t iteration, double sign);

  Backend& backend_;
  const BinnedMatrix& bins_;
  const TrainParams& params_;
  const int64_t first_iteration_;
  std::vector<double> weights_;   // of each iteration's trees, as they are now
  std::vector<int64_t> dropped_;  // iterations, as indices of weights_
};

}  // namespace qgbdt
